-- Purpose: makes the server this node of this pool, in this life (Q9).
-- KEYS: 1 string, the cookie
-- ARGV: 1 the server's run id; 2 the run id that was meant; 3 pool; 4 node; 5 incarnation
-- Returns: ok | stranger, held
-- Atomic: of two admissions the newer incarnation must win whatever their order.
local key, own, meant = KEYS[1], ARGV[1], ARGV[2]
local pool, node, incarnation = ARGV[3], ARGV[4], tonumber(ARGV[5])
local held = call('GET', key)
if own ~= meant then return {'stranger', held or ''} end
if held then
  local held_pool, held_node, held_incarnation = held:match('^(%x+)%.(%d+)%.(%d+) ')
  held_incarnation = tonumber(held_incarnation)
  if held_pool ~= pool or held_node ~= node or not held_incarnation
    or held_incarnation > incarnation then return {'stranger', held} end
  if held_incarnation == incarnation then return {'ok'} end
end
call('SET', key, pool .. '.' .. node .. '.' .. ARGV[5] .. ' ' .. own)
return {'ok'}
