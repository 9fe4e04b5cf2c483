const encoder = new TextEncoder()
const ALGORITHM = { name: 'HMAC', hash: 'SHA-256' }

/** HMAC-SHA256 of a text, in lower-case hex. */
export async function hmac(secret: string, text: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.sign('HMAC', await importKey(secret), encode(text))))
}

/** Whether `mac` is the HMAC-SHA256 of a text, in lower-case hex; takes as long whichever digit differs. */
export async function isHmac(secret: string, text: string, mac: string): Promise<boolean> {
  if (!/^[0-9a-f]{64}$/.test(mac)) return false
  const bytes = Uint8Array.from(mac.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  return crypto.subtle.verify('HMAC', await importKey(secret), bytes, encode(text))
}

type HmacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>

/** Imported secrets: a gateway has one or two of each node. */
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

/** Copied, since Workers' types leave open which kind of buffer the encoder returns. */
function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encoder.encode(text))
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Bytes in lower-case hex. */
export function hex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX[byte]
  return text
}
