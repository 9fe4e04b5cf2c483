import type { ErrorBody } from '@copal/shared/errors.ts'
import { expect, test } from 'vitest'
import { arithmeticNodes, CHAT } from '../../../support/doubles/arithmetic-node.ts'
import { call, readEvents } from '../../../support/processes/in-process-node.ts'

const MAX_UNREAD = 500
const nodes = arithmeticNodes({ contextLength: 4096 })

test('a response with too much unread output ends with an error event, and others are served', async () => {
  const { node } = await nodes.start({
    engine: {
      policy: { maxUnread: MAX_UNREAD },
      config: { ...nodes.model().config, eosTokenIds: [] },
    },
  })
  const ask = call({ ...CHAT, max_tokens: 4_000, stream: true })
  const unread = await node.post('/rpc/chat-completions', ask, { directly: true })
  const [receipt] = await node.untilReceipts(1)
  expect(receipt).toMatchObject({ finishReason: 'cancelled' })
  expect(receipt?.completionTokens).toBeGreaterThanOrEqual(MAX_UNREAD)
  // A token with half a character waits for the other half.
  expect(receipt?.completionTokens).toBeLessThan(2 * MAX_UNREAD)

  const read = await node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 1_000, stream: true }))
  expect((await readEvents(read)).at(-1)).toBe('[DONE]')
  const last = (await readEvents(unread)).at(-1)
  expect((last as ErrorBody).error).toMatchObject({ code: 'overloaded', type: 'rate_limit_error' })
})
