-- Purpose: raises the manifest's version: older claims, deletes and copies are refused (Q7, Q8).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 the version, 8 bytes
-- Returns: ok | stranger, held | gone | stale, version
-- Atomic: the version only rises.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
refused = stale(r, ARGV[2])
if refused then return refused end
raise_version(r, ARGV[2])
return {'ok'}
