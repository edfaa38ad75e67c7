-- Health of a BotSecret in Argo CD (operator manual, "Resource Health"). Its status is
-- in kstatus format (kubernetes-sigs/cli-utils, pkg/kstatus/README.md), with the
-- conditions RolledOut, Rotated and LeasesRenewable beside it. The reasons are those of
-- docs/reasons.
--
-- Argo CD gives a script of argocd-cm no `string` and no `math` ("access to the standard
-- Lua libraries will be disabled by default"): there is none of them here.

local hs = {}
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function say(health, reason, message)
  hs.status = health
  hs.message = reason .. ": " .. message
  return hs
end

-- In the words of the condition that decides.
local function tell(health, condition)
  return say(health, condition.reason or "", condition.message or "")
end

local function is(name, value)
  return conditions[name] ~= nil and conditions[name].status == value
end

if obj.metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Deleting", "leased credentials are revoked first, where there are any")
end

if obj.spec ~= nil and obj.spec.suspend == true then
  if is("Ready", "False") and conditions.Ready.reason == "Suspended" then
    return tell("Suspended", conditions.Ready)
  end
  return say("Suspended", "Suspended", "spec.suspend is true")
end

-- What is said of an earlier spec, or of none, is no verdict on this one.
if conditions.Ready == nil or status.observedGeneration == nil then
  return say("Progressing", "NotObserved", "no operator has looked at this BotSecret yet")
end
if obj.metadata.generation ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return say("Progressing", "NotObserved", "the operator has not looked at this generation of the spec yet")
end

-- Somebody is to act: what cannot be read or written, a value that was rejected or taken
-- back, a workload that failed on one. Also while pods are still being replaced.
if is("Stalled", "True") then
  return tell("Degraded", conditions.Stalled)
end

-- An outage turns Ready False only when there is no Secret yet, or its data is older than
-- three intervals. These end by themselves.
local passing = { CandidatePending = true, StaleRead = true, TargetTerminating = true }
if not is("Ready", "True") then
  if not is("Ready", "False") or passing[conditions.Ready.reason] then
    return tell("Progressing", conditions.Ready)
  end
  return tell("Degraded", conditions.Ready)
end

-- The Secret is as it is to be; do the workloads hold it?
local failed = { Reverted = true, RolloutHalted = true, RolloutRefused = true }
local rolled = conditions.RolledOut
if is("RolledOut", "False") and rolled.reason ~= "WaitingForWorkload" then
  if failed[rolled.reason] then
    return tell("Degraded", rolled)
  end
  return tell("Progressing", rolled)
end

-- A new value is being tried.
if is("Reconciling", "True") then
  return tell("Progressing", conditions.Reconciling)
end

-- None of these keeps anybody from working, and each is worth a line. A workload that is
-- paused, or not there yet, may come with a later wave of the same sync, which would wait
-- for ever if this were not Healthy.
for _, name in ipairs({ "RolledOut", "Rotated", "LeasesRenewable" }) do
  if is(name, "False") then
    return tell("Healthy", conditions[name])
  end
end
return tell("Healthy", conditions.Ready)
