import type { ErrorBody } from '@copal/shared/errors.ts'
import { expect, test, vi } from 'vitest'
import { arithmeticNodes, CHAT } from '../../../support/doubles/arithmetic-node.ts'
import { WAIT } from '../../../support/harness/wait.ts'
import { call, readEvents } from '../../../support/processes/in-process-node.ts'

const MAX_UNREAD = 500
/** Clients that leave. */
const LEFT = 20
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

test('clients that disconnect with unread output take nothing from the streams of others', async () => {
  const { node } = await nodes.start({
    engine: {
      policy: { maxUnread: MAX_UNREAD },
      config: { ...nodes.model().config, eosTokenIds: [] },
    },
  })
  const stream = (maxTokens: number) =>
    node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: maxTokens, stream: true }), {
      directly: true,
    })
  // Each leaves when its whole output is generated and most of it is unread.
  for (let client = 1; client <= LEFT; client += 1) {
    const left = await stream(50)
    await node.untilReceipts(client)
    await left.body?.cancel()
  }
  const slow = await stream(200)
  await node.untilReceipts(LEFT + 1)
  expect((await readEvents(slow)).at(-1)).toBe('[DONE]')
  await vi.waitFor(() => expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 }), WAIT)
})
