import { hmac } from '@copal/shared/wire/hmac.ts'
import { sideOfHash } from './sample-placement.ts'
import { headOf } from './text-hash.ts'
import type { Side } from '../../contracts/reservoir-object.ts'

const ID_DIGITS = 32

/**
 * Returns the id of a conversation: an HMAC of the API key and the first message, so that its texts are recognized without
 * storing the message with each of them.
 */
export async function conversationId(secret: string, keyId: string, firstMessage: string): Promise<string> {
  const mac = await hmac(secret, `conversation\n${keyId}\n${firstMessage}`)
  return mac.slice(0, ID_DIGITS)
}

/**
 * Returns the side of a conversation: an HMAC of the beginning of its first message decides, so that one conversation in
 * four is held out. The key is no part of it, so two keys with the same first message are on the same side, and without the
 * secret nobody can choose a side.
 *
 * @param firstMessage redacted, as it is stored: messages that differ only in what is redacted are on the same side
 */
export async function conversationSide(secret: string, firstMessage: string): Promise<Side> {
  return sideOfHash(await hmac(secret, `side\n${headOf(firstMessage)}`))
}
