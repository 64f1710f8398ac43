# The key's token, from where you keep secrets; `keyward keys reveal` shows it too.
: "${API_TOKEN:?set API_TOKEN to the token of a key}"

# 200 with a good key, 401 with one that is unknown, deactivated or expired.
curl --silent --show-error --include \
  --header "Authorization: Bearer $API_TOKEN" \
  "PUBLIC_API_URL"
