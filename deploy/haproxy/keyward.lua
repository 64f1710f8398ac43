-- http-request lua.keyward SETTINGS: calls the validator's HTTP hook for the request, and stores the response in
-- variables of the transaction. SETTINGS is a query string, such as "project=6666&allow_client_keys=true", or "-" for
-- no settings. Needs no other Lua module.
--
-- Variables: txn.keyward_status is the status of the hook, or 0 without a complete response. The others contain headers
-- and the body of the response: txn.keyward_project, _key, _remove, _challenge and _body.

-- Timeout of one try, in milliseconds. HAProxy 2.6 tries four times, so a validator that hangs takes four times as
-- long.
local timeout_ms = 80

-- The headers that may carry a token. All their values are sent to the hook, so that it can refuse two tokens.
local token_headers = { "authorization", "x-api-key" }

-- Addresses of the validators whose health check passes; the time in seconds when they were listed (the list is renewed
-- after 0.1 s); and a counter for calling them in turn.
local up, listed_at, turn = {}, 0, 0

local function next_validator()
  local now = core.now()
  local time = now.sec + now.usec / 1000000
  if time - listed_at > 0.1 then
    up, listed_at = {}, time
    for _, server in pairs(core.backends["keyward"].servers) do
      if string.find(server:get_stats()["status"], "^UP") then table.insert(up, server:get_addr()) end
    end
  end
  if #up == 0 then return nil end
  turn = turn + 1
  return up[turn % #up + 1]
end

core.register_action("keyward", { "http-req" }, function(txn, settings)
  txn:set_var("txn.keyward_status", 0)
  local sent = txn.http:req_get_headers()
  local headers = { ["host"] = { "keyward" }, ["x-original-uri"] = { txn.sf:url() } }
  for _, name in ipairs(token_headers) do
    if sent[name] then
      headers[name] = {}
      for line = 0, #sent[name] do table.insert(headers[name], sent[name][line]) end
    end
  end
  local validator = next_validator()
  if not validator then return end
  local url = "http://" .. validator .. "/auth"
  if settings ~= "-" then url = url .. "?" .. settings end
  local answer = core.httpclient():get { url = url, headers = headers, timeout = timeout_ms }
  if not answer then return end
  local function response_header(name)
    local values = answer.headers and answer.headers[name]
    return values and values[0] or ""
  end
  txn:set_var("txn.keyward_project", response_header("x-keyward-project"))
  txn:set_var("txn.keyward_key", response_header("x-keyward-key"))
  txn:set_var("txn.keyward_remove", response_header("x-envoy-auth-headers-to-remove"))
  txn:set_var("txn.keyward_challenge", response_header("www-authenticate"))
  txn:set_var("txn.keyward_body", answer.body or "")
  -- Set the status last, so that it is set only for a complete response.
  txn:set_var("txn.keyward_status", answer.status)
end, 1)
