import { spreadHash } from '../../runtime/spread-hash.ts'

/** The part of the first message that is hashed, so that a long prompt costs no more than 20 µs. */
const MAX_CHARACTERS = 4 * 1024
const MAX_TOKEN_IDS = 1024

/**
 * Returns the key under which the fleet knows a conversation: a hash of the API key and of its first message. Every request
 * has one, also where nothing is sampled. Conversations that begin alike for 4,096 characters share it.
 *
 * @param opening the first message, or the first prompt as token ids
 */
export function conversationKey(keyId: string, opening: string | readonly number[]): string {
  const text =
    typeof opening === 'string' ? opening.slice(0, MAX_CHARACTERS) : opening.slice(0, MAX_TOKEN_IDS).join(' ')
  return spreadHash(`${keyId}\n${text}`).toString(36)
}
