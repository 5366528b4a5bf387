-- Purpose: makes the node a keeper without a vote, or raises a keeper's epoch (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 keepers
-- Returns: ok | stranger, held | epoch, epoch, keepers
-- Atomic: the epoch only rises.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local k, epoch, keepers = KEYS[2], tonumber(ARGV[2]), ARGV[3]
local held = call('HMGET', k, 'epoch', 'keepers')
if not held[1] then
  call('HSET', k, 'epoch', ARGV[2], 'keepers', keepers, 'active', 0, 'counter', 0)
elseif tonumber(held[1]) > epoch then
  return {'epoch', held[1], held[2]}
elseif tonumber(held[1]) < epoch then
  call('HSET', k, 'epoch', ARGV[2], 'keepers', keepers)
end
return {'ok'}
