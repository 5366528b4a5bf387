-- Purpose: what was accepted, of several registers (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; then names
-- Returns: ok, {accepted or empty, value, ...} | stranger, held | notkeeper |
--   epoch, epoch, keepers
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
local each = {}
for at = 3, #ARGV do
  local held = call('HMGET', base .. 'r:' .. ARGV[at], 'accepted', 'value')
  each[#each + 1] = held[1] or ''
  each[#each + 1] = held[2] or ''
end
return {'ok', each}
