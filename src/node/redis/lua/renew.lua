-- Purpose: restarts a claim's time (Q7).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 version, 8 bytes; 3 claim, 8 bytes; 4 rank, 12 bytes; 5 ttl;
--   6 grace
-- Returns: ok, messages | stranger, held | gone | open | endunknown | stale, version | noclaim
-- Atomic: a claim that has ended must not come back over one made since.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local version, key, rank = ARGV[2], ARGV[3], ARGV[4]
local ttl, grace = tonumber(ARGV[5]), tonumber(ARGV[6])
refused = not_ended_or_joining(r) or stale(r, version)
if refused then return refused end
local c = claim_of(r, key)
if not c or c.rank ~= rank or now >= c.ends then return {'noclaim'} end
raise_version(r, version)
local n, ends, till = 0, now + ttl, now + ttl + grace
members(r, c, function(b, pos)
  n = n + 1
  outlive(r, b, pos, pos, ends, till)
end)
c.ttl, c.ends, c.dirty = ttl, ends, true
each_pending(r, key, function(ref, w)
  if w.rank ~= rank then return end
  w.ends, w.till = ends, till
  remember(r, ref, w)
end)
save_all(r)
return {'ok', n}
