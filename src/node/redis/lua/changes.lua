-- Purpose: names of registers accepted into since a change.
-- KEYS: 1 string, the cookie; 2 hash `k`, the keeper's own state
-- ARGV: 1 the cookie wanted; 2 epoch; 3 the last change known; 4 limit
-- Returns: ok, upto, complete (0 or 1), {name, ...} | stranger, held | notkeeper |
--   epoch, epoch, keepers
-- Atomic: it only reads.
local refused = stranger(KEYS[1], ARGV[1]) or not_keeper(KEYS[2], ARGV[2], true)
if refused then return refused end
local base = KEYS[2]:sub(1, -2)
local since, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local counter = tonumber(call('HGET', KEYS[2], 'counter'))
if since > counter then since = 0 end
local found = call('ZRANGEBYSCORE', base .. 'log', '(' .. ('%.0f'):format(since), '+inf',
  'WITHSCORES', 'LIMIT', 0, limit + 1)
local names, upto, complete = {}, counter, 1
if #found / 2 > limit then complete, upto = 0, tonumber(found[2 * limit]) end
for at = 1, math.min(limit, #found / 2) do names[at] = found[2 * at - 1] end
return {'ok', ('%.0f'):format(upto), complete, names}
