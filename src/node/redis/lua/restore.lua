-- Purpose: takes registers of other keepers, each by the higher ballot (Q6, Q9).
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; then for each register: name, promised, accepted or empty,
--   value, project, queue, listed (0, 1, or empty: not indexed)
-- Returns: ok | stranger, held | notkeeper | epoch, epoch, keepers
-- Atomic: a keeper that votes by now is left alone.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], false)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
if call('HGET', KEYS[2], 'active') == '1' then return {'ok'} end
for at = 3, #ARGV, 7 do
  local name, promised, ballot = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local held = call('HMGET', base .. 'r:' .. name, 'promised', 'accepted')
  if not held[1] or below(held[1], promised) then
    call('HSET', base .. 'r:' .. name, 'promised', promised)
    call('ZADD', base .. 'names', 0, name)
  end
  if ballot ~= '' and (not held[2] or below(held[2], ballot)) then
    take(base, name, ballot, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
  end
end
return {'ok'}
