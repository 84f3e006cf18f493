# Print a token made as shell scripts for MESH make it: a nonce count with zeros before it, the digest by openssl.
# sh shell_token.sh MAILBOX PASSWORD SHARED-KEY NONCE
stamp=$(date -u +%Y%m%d%H%M)
digest=$(printf '%s' "$1:$4:001:$2:$stamp" | openssl dgst -sha256 -hmac "$3" | sed 's/^.*= //')
printf 'NHSMESH %s:%s:001:%s:%s\n' "$1" "$4" "$stamp" "$digest"
