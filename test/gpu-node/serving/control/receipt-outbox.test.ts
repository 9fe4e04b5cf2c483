import { appendFile, open as openFile, readFile, readlink, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { openReceiptOutbox } from '../../../../gpu-node/src/serving/control/receipt-outbox.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { WAIT } from '../../../support/harness/wait.ts'

function receiptOf(index: number): Receipt {
  return {
    requestId: `request-${index}`,
    model: 'tiny',
    domain: 'legal',
    maskVersion: 1,
    promptTokens: 5,
    completionTokens: index,
    finishReason: 'stop',
    queueMs: 0,
    timeToFirstTokenMs: 3,
    totalMs: 10,
    drift: index % 2 ? { tokens: 5, nllMasked: 2.5, nllDense: 2.25 } : null,
  }
}

async function setup({
  capacity,
  ...pace
}: { capacity?: number; intervalMs?: number; urgentFrom?: number; openFile?: typeof openFile } = {}) {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const home = temporaryDir()
  const log = memoryLog()
  const open = () =>
    openReceiptOutbox({
      home,
      nodeId: 'node-1',
      gateway: createGatewayClient({ baseUrl: gateway.url, nodeId: gateway.nodeId, secret: gateway.secret }),
      log,
      intervalMs: 5,
      ...pace,
      ...(capacity === undefined ? {} : { capacity }),
    })
  const fileLines = async () =>
    (await readFile(join(home, 'receipts.jsonl'), 'utf8')).split('\n').filter(Boolean)
  return { gateway, home, log, open, fileLines }
}

test('receipts are sent in batches, and the file is empty once they are acknowledged', async () => {
  const { gateway, open, fileLines } = await setup()
  const outbox = await open()
  for (let index = 0; index < 600; index++) outbox.add(receiptOf(index))
  outbox.start()
  await vi.waitFor(() => expect(gateway.receipts.size).toBe(600), WAIT)
  await vi.waitFor(() => expect(outbox.pending()).toBe(0), WAIT)
  await outbox.stop()
  expect(gateway.receipts.get('request-7')).toEqual(receiptOf(7))
  expect(gateway.calls.length).toBe(3)
  expect(await fileLines()).toEqual([])
})

test('from the number on that is urgent, receipts are sent before the interval has passed', async () => {
  const { gateway, open } = await setup({ intervalMs: 1e6, urgentFrom: 3 })
  const outbox = await open()
  outbox.start()
  for (let index = 0; index < 2; index++) outbox.add(receiptOf(index))
  await new Promise(setImmediate)
  expect(gateway.calls.length).toBe(0)
  let more = 3
  gateway.intercept = () => {
    // While the first batch is sent, as many arrive.
    while (more > 0) outbox.add(receiptOf(10 + (more -= 1)))
    return false
  }
  outbox.add(receiptOf(2))
  await vi.waitFor(() => expect(gateway.receipts.size).toBe(6), WAIT)
  expect(gateway.calls.length).toBe(2)
  await outbox.stop()
})

test('receipts added while others are sent go with the next batch, or with the last one of a node that stops', async () => {
  const { gateway, open } = await setup()
  const outbox = await open()
  let added = 0
  gateway.intercept = () => {
    if (added < 5) outbox.add(receiptOf((added += 1)))
    return false
  }
  outbox.add(receiptOf(0))
  await outbox.flush()
  expect(gateway.calls.length).toBe(1)
  expect(outbox.pending()).toBe(1)

  added = 5
  const sending = outbox.flush()
  outbox.add(receiptOf(6))
  await outbox.stop()
  await sending
  expect(outbox.pending()).toBe(0)
  expect([...gateway.receipts.keys()]).toEqual(['request-0', 'request-1', 'request-6'])
})

test('receipts that an unreachable gateway did not acknowledge are sent when it returns', async () => {
  const { gateway, open, log } = await setup()
  gateway.disconnect()
  const outbox = await open()
  outbox.start()
  for (let index = 0; index < 3; index++) outbox.add(receiptOf(index))
  await vi.waitFor(() => expect(log.lines).toHaveLength(1), WAIT)
  expect(outbox.pending()).toBe(3)
  gateway.reconnect()
  await vi.waitFor(() => expect(gateway.receipts.size).toBe(3), WAIT)
  await outbox.stop()
  expect(outbox.pending()).toBe(0)
})

test('a batch whose acknowledgement was lost is sent again', async () => {
  const { gateway, open } = await setup()
  const outbox = await open()
  let lost = 0
  gateway.intercept = (request) => {
    if (lost++ > 0) return false
    request.socket.destroy()
    return true
  }
  outbox.add(receiptOf(1))
  await outbox.flush()
  expect(outbox.pending()).toBe(1)
  await outbox.flush()
  expect(gateway.receipts.size).toBe(1)
  await outbox.stop()
})

test('unacknowledged receipts survive a restart, also with a partial last line', async () => {
  const { gateway, home, open, fileLines } = await setup()
  gateway.disconnect()
  const killed = await open()
  for (let index = 0; index < 4; index++) killed.add(receiptOf(index))
  await vi.waitFor(async () => expect(await fileLines()).toHaveLength(4), WAIT)
  await appendFile(join(home, 'receipts.jsonl'), '{"requestId": "request-to')
  gateway.reconnect()
  const restarted = await open()
  expect(restarted.pending()).toBe(4)
  await restarted.flush()
  expect([...gateway.receipts.keys()].sort()).toEqual(['request-0', 'request-1', 'request-2', 'request-3'])
  await restarted.stop()
  await killed.stop()
})

test('a file that cannot be read fails the start and is kept', async () => {
  const { home, open } = await setup()
  const path = join(home, 'receipts.jsonl')
  await symlink(path, path)
  await expect(open()).rejects.toThrow(`${path} cannot be read`)
  expect(await readlink(path)).toBe(path)
})

test('a receipt that the gateway rejects blocks no other', async () => {
  const { gateway, open, log } = await setup()
  const outbox = await open()
  outbox.add(receiptOf(1))
  outbox.add({ ...receiptOf(2), requestId: 'short' })
  outbox.add(receiptOf(3))
  await outbox.flush()
  expect([...gateway.receipts.keys()]).toEqual(['request-1', 'request-3'])
  expect(outbox.pending()).toBe(0)
  expect(log.lines.join('\n')).toMatch(/refuses a receipt.*short/)
  await outbox.stop()
})

test('a full outbox drops and logs the oldest receipts, and its file stays bounded', async () => {
  const { gateway, open, log, fileLines } = await setup({ capacity: 10 })
  gateway.disconnect()
  const outbox = await open()
  for (let index = 0; index < 5_000; index++) outbox.add(receiptOf(index))
  expect(outbox.pending()).toBe(10)
  expect(log.lines.at(-1)).toMatch(/outbox is full/)
  await outbox.stop()
  expect((await fileLines()).length).toBeLessThan(2_500)
  const restarted = await open()
  gateway.reconnect()
  await restarted.flush()
  expect(gateway.receipts.has('request-4999')).toBe(true)
  await restarted.stop()
})

test('receipts that a full disk did not take are written once it has room, and the rest of a line harms none', async () => {
  let isFull = false
  const { gateway, open, fileLines, log } = await setup({
    async openFile(...place) {
      const file = await openFile(...place)
      const append = file.appendFile.bind(file)
      file.appendFile = async (data) => {
        if (!isFull) return append(data)
        await append((data as string).slice(0, 20))
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
      }
      return file
    },
  })
  gateway.disconnect()
  const outbox = await open()
  outbox.add(receiptOf(1))
  await vi.waitFor(async () => expect(await fileLines()).toHaveLength(1), WAIT)
  isFull = true
  outbox.add(receiptOf(2))
  outbox.add(receiptOf(3))
  await vi.waitFor(() => expect(log.lines.join()).toContain('no space left'), WAIT)
  isFull = false
  outbox.add(receiptOf(4))
  outbox.start()
  const stored = async () => (await fileLines()).map((line) => (JSON.parse(line) as Receipt).requestId)
  await vi.waitFor(
    async () => expect(await stored()).toEqual([1, 2, 3, 4].map((index) => `request-${index}`)),
    WAIT,
  )
  expect(log.lines.filter((line) => line.includes('no space left'))).toHaveLength(1)
  await outbox.stop()
})
