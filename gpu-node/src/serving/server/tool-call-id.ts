import { randomBytes } from 'node:crypto'

/** What results of a new call will refer to, like OpenAI's: `call_` and 24 hexadecimal digits. */
export function newCallId(): string {
  return `call_${randomBytes(12).toString('hex')}`
}
