-- Purpose: a claim and its messages.
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 claim, 8 bytes; 3 rank, 12 bytes
-- Returns: ok, ttl, age, descriptions, runs | stranger, held | gone | open | noclaim
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local key, rank = ARGV[2], ARGV[3]
refused = not_sealed(r)
if refused then return refused end
local c = claim_of(r, key)
if not c or c.rank ~= rank or now >= c.ends then return {'noclaim'} end
local e = describe()
members(r, c, function(b, pos) add_entry(e, r, b, pos) end)
local texts, runs = described(e)
return {'ok', c.ttl, math.max(0, c.ttl - (c.ends - now)), texts, runs}
