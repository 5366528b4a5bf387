-- Purpose: tells which node this is, and whether it is a keeper (Q9).
-- KEYS: 1 string, the cookie
-- ARGV: none
-- Returns: cookie or an empty string, then, on a keeper: epoch, keepers, active (0 or 1)
-- Atomic: the keeper's state is found by the cookie.
local held = call('GET', KEYS[1])
if not held then return {''} end
local pool, incarnation = held:match('^(%x+)%.%d+%.(%d+) ')
if not pool then return {held} end
local k = call('HMGET', 'rl:' .. pool .. ':' .. incarnation .. ':k', 'epoch', 'keepers', 'active')
if not k[1] then return {held} end
return {held, k[1], k[2], k[3]}
