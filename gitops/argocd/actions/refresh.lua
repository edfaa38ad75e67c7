-- Reads now. The operator acts on any value of the annotation that it has not acted on
-- before (status.lastHandledRefresh). The object's version is another after each write,
-- this one included, so no clock is needed.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["botsecret.dev/refresh"] = "argocd-" .. (obj.metadata.resourceVersion or "")
return obj
