-- Goes on. False, and not absent: where Git says false, absence would be a difference.
obj.spec.suspend = false
return obj
