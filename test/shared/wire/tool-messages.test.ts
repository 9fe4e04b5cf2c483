import { describe, expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { requestError } from '../../support/harness/request-error.ts'

const chat = (fields: object) => () => validate(chatRequest, { model: 'tiny', ...fields })

describe('tool messages', () => {
  const user = { role: 'user', content: 'a' }
  const calls = (...ids: string[]) => ({
    role: 'assistant',
    content: null,
    tool_calls: ids.map((id) => ({ id, type: 'function', function: { name: 'f', arguments: '{}' } })),
  })
  const output = (id: string) => ({ role: 'tool', content: 'b', tool_call_id: id })

  test.each([
    ['the outputs of all calls, in another order', [user, calls('1', '2'), output('2'), output('1'), user]],
    ['two outputs of one call', [user, calls('1'), output('1'), output('1')]],
    ['the same id in another turn', [user, calls('1'), output('1'), user, calls('1'), output('1')]],
    ['calls after outputs', [user, calls('1'), output('1'), calls('2'), output('2')]],
    ['last calls that wait for outputs', [user, calls('1', '2'), output('1')]],
  ])('may be %s', (_, messages) => {
    expect(chat({ messages })).not.toThrow()
  })

  const noCalls =
    "Invalid 'messages[1].role': messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
  const unanswered =
    "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. " +
    'The following tool_call_ids did not have response messages: '
  test.each([
    ['of no call', [user, output('1')], 'messages[1].role', noCalls],
    [
      'of another call',
      [user, calls('1'), output('1'), output('2')],
      'messages[3].tool_call_id',
      "Invalid 'messages[3].tool_call_id': 'tool_call_id' of '2' not found in 'tool_calls' of previous message.",
    ],
    [
      'of a call of an earlier turn',
      [user, calls('1'), output('1'), user, output('1')],
      'messages[4].role',
      noCalls.replace('[1]', '[4]'),
    ],
    [
      'missing',
      [user, calls('1', '2', '3'), output('2'), user],
      'messages[3].role',
      `Invalid 'messages[3].role': ${unanswered}1, 3.`,
    ],
    [
      'missing before other calls',
      [user, calls('1'), calls('2'), output('2')],
      'messages[2].role',
      `Invalid 'messages[2].role': ${unanswered}1.`,
    ],
  ])('are rejected if they are %s', (_, messages, param, message) => {
    expect(requestError(chat({ messages }))).toMatchObject({ param, message })
  })
})
