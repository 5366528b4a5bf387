-- Purpose: registers with all that is known of them, by name (Q6).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 the last name of the page before; 4 limit
-- Returns: ok, {name, promised, accepted, value, project, queue, listed, ...}, done (0 or 1) |
--   stranger, held | notkeeper | epoch, epoch, keepers
--   What is not there is empty.
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
local after, limit = ARGV[3], tonumber(ARGV[4])
local names, registers = page(base .. 'names', after, limit + 1), {}
for at = 1, math.min(limit, #names) do
  registers[#registers + 1] = names[at]
  local held = call('HMGET', base .. 'r:' .. names[at], 'promised', 'accepted', 'value', 'project',
    'queue', 'listed')
  for i = 1, 6 do registers[#registers + 1] = held[i] or '' end
end
return {'ok', registers, #names <= limit and 1 or 0}
