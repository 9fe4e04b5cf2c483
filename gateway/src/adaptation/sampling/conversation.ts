import { hmac } from '@copal/shared/wire/hmac.ts'
import { lowBits, sideOfHash } from './sample-placement.ts'
import type { Side } from '../../contracts/reservoir-object.ts'

const ID_DIGITS = 32
/** 32 bits. */
const NUMBER_DIGITS = 8

/**
 * Returns the id of a conversation: an HMAC of the API key and the first message, so that its texts are recognized without
 * storing the message with each of them.
 */
export async function conversationId(secret: string, keyId: string, firstMessage: string): Promise<string> {
  const mac = await hmac(secret, `conversation\n${keyId}\n${firstMessage}`)
  return mac.slice(0, ID_DIGITS)
}

/**
 * Returns the number of a conversation in receipts, below 2³²: an HMAC, so that nobody can find out its first message by guessing.
 *
 * @param key by which the fleet knows it
 */
export async function conversationNumber(secret: string, key: string): Promise<number> {
  const mac = await hmac(secret, `receipt\n${key}`)
  return Number.parseInt(mac.slice(0, NUMBER_DIGITS), 16)
}

/**
 * Returns the side of a conversation: an HMAC of its first message decides, so that one conversation in four is held out. It is
 * of the whole message, because all messages of a service may begin with the same instructions. The key is no part of it, so two
 * keys with the same first message are on the same side, and without the secret nobody can choose a side.
 *
 * @param firstMessage redacted, as it is stored: messages that differ only in what is redacted are on the same side
 */
export async function conversationSide(secret: string, firstMessage: string): Promise<Side> {
  return sideOfHash(await sideHash(secret, firstMessage))
}

/**
 * Returns the sides of texts that are imported together, each a conversation of its own: a quarter of them is held out,
 * those with the lowest HMACs. If each was decided by itself, as in {@link conversationSide}, one service in 200 would hold
 * out too little of forty texts to judge a mask.
 *
 * Equal texts are on the same side. If four does not divide their number, chance decides about one more text, so a
 * single text has the side of {@link conversationSide}.
 */
export async function importedSides(secret: string, texts: readonly string[]): Promise<Side[]> {
  const hashes = await Promise.all(texts.map((text) => sideHash(secret, text)))
  const lots = [...new Set(hashes)].toSorted()
  const whole = Math.floor(lots.length / 4)
  const next = lots[whole] ?? ''
  const count = whole + (lowBits(next) < lots.length % 4 ? 1 : 0)
  const heldOut = new Set(lots.slice(0, count))
  return hashes.map((hash) => (heldOut.has(hash) ? 'holdout' : 'pool'))
}

function sideHash(secret: string, firstMessage: string): Promise<string> {
  return hmac(secret, `side\n${firstMessage}`)
}
