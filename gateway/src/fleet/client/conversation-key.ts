import { spreadHash } from '../../runtime/spread-hash.ts'

/** The parts at both ends of the first message that are hashed, so that a long prompt costs no more than 20 µs. */
const END_CHARACTERS = 2 * 1024
const END_TOKEN_IDS = 512

/**
 * Returns the key under which the fleet knows a conversation: a hash of the API key and of its first message. Every request
 * has one, also where nothing is sampled. Conversations share it if their messages are equally long, and begin and end alike
 * for 2,048 characters. The beginning alone would be the same one for all requests of a service with long instructions.
 *
 * @param opening the first message, or the first prompt as token ids
 */
export function conversationKey(keyId: string, opening: string | readonly number[]): string {
  const { length } = opening
  const text =
    typeof opening === 'string'
      ? opening.slice(0, END_CHARACTERS) + opening.slice(Math.max(END_CHARACTERS, length - END_CHARACTERS))
      : [
          ...opening.slice(0, END_TOKEN_IDS),
          ...opening.slice(Math.max(END_TOKEN_IDS, length - END_TOKEN_IDS)),
        ].join(' ')
  return spreadHash(`${keyId}\n${length}\n${text}`).toString(36)
}
