const encoder = new TextEncoder()
const ALGORITHM = { name: 'HMAC', hash: 'SHA-256' }

/** Returns the HMAC-SHA256 of a text, in lower-case hex. */
export async function hmac(secret: string, text: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.sign('HMAC', await importKey(secret), encode(text))))
}

/** Returns whether `mac` is the HMAC-SHA256 of a text, in lower-case hex. Compares in constant time. */
export async function isHmac(secret: string, text: string, mac: string): Promise<boolean> {
  if (!/^[0-9a-f]{64}$/.test(mac)) return false
  const bytes = Uint8Array.from(mac.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  return crypto.subtle.verify('HMAC', await importKey(secret), bytes, encode(text))
}

type HmacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>

/** Imported keys by secret; a gateway has one or two for each node. */
const keys = new Map<string, HmacKey>()
const MAX_KEYS = 4_096

async function importKey(secret: string): Promise<HmacKey> {
  const known = keys.get(secret)
  if (known) return known
  const key = await crypto.subtle.importKey('raw', encode(secret), ALGORITHM, false, ['sign', 'verify'])
  if (keys.size >= MAX_KEYS) keys.clear()
  keys.set(secret, key)
  return key
}

/** Encodes a text as UTF-8; the copy has the buffer type that Workers' types leave open. */
function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encoder.encode(text))
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Returns bytes in lower-case hex. */
export function hex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX[byte]
  return text
}
