-- Purpose: remembers up to which block a producer was acked, without a block (Q5).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 producer, 8 bytes; 3 the block
-- Returns: ok | stranger, held | gone
-- Atomic: a note only rises, and never above the frontier.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_current(KEYS[2])
if not r or r.sealed == 1 then call('UNLINK', KEYS[2] .. ':n') end
if not r then return {'gone'} end
local producer, noted = ARGV[2], tonumber(ARGV[3])
local frontier, held, digest = producer_of(r, producer)
noted = math.min(noted, frontier)
if noted > held then
  call('HSET', r.p .. ':m', 'p' .. hex(producer), pack('<I4I4', frontier, noted) .. digest)
end
return {'ok'}
