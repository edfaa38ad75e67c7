-- Which actions are offered on a BotSecret (operator manual, "Resource Actions"). What
-- would do nothing is greyed out: of one that is suspended nothing is read.
local suspended = obj.spec ~= nil and obj.spec.suspend == true
local deleting = obj.metadata.deletionTimestamp ~= nil

local actions = {}
actions["refresh"] = { ["disabled"] = suspended or deleting }
actions["suspend"] = { ["disabled"] = suspended or deleting }
actions["resume"] = { ["disabled"] = not suspended or deleting }
return actions
