import { randomBytes } from 'node:crypto'

/** Returns the id of a new tool call, in OpenAI's form: `call_` and 24 hexadecimal digits. */
export function newCallId(): string {
  return `call_${randomBytes(12).toString('hex')}`
}
