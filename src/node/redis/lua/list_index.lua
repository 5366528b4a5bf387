-- Purpose: names listed under a project, in order.
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 project; 4 the last name of the page before; 5 limit
-- Returns: ok, {name, ...} | stranger, held | notkeeper | epoch, epoch, keepers
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
return {'ok', page(base .. 'x:' .. ARGV[3], ARGV[4], ARGV[5])}
