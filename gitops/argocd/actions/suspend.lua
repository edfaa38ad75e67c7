-- Stops reading, writing and rolling.
obj.spec.suspend = true
return obj
