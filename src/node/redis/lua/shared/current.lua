-- A replica with all that was noted down for it: for what looks at one that takes appends.
local function load_current(prefix)
  local r = load_replica(prefix)
  if r and r.sealed == 0 and take_noted(prefix) then return load_replica(prefix) end
  return r
end
