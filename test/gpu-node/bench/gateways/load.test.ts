import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { openLoad, type Load } from '../../../../gpu-node/bench/gateways/load.ts'

test('other statuses and truncated streams count as failures, not as fast responses', async () => {
  const endings = ['data: [DONE]\n\n', 'data: {}\n\n']
  const half = await start((_request, response) => response.end(endings[count++ % 2]), 1)
  let count = 0
  expect(await half.count(10)).toMatchObject({
    count: 5,
    failed: 5,
    failure: expect.stringContaining('HTTP 200'),
  })
  const broken = await start((_request, response) => response.writeHead(503).end('data: [DONE]\n\n'), 1)
  expect(await broken.count(3)).toMatchObject({
    count: 0,
    failed: 3,
    failure: expect.stringContaining('HTTP 503'),
  })
})

test('a lost connection counts as a failure, and the load continues', async () => {
  let first = true
  const load = await start((request, response) => {
    if (first) request.socket.destroy()
    else response.end('data: [DONE]\n\n')
    first = false
  }, 1)
  expect(await load.count(3)).toMatchObject({ count: 2, failed: 1 })
})

test('at a fixed rate a server that stalls is charged for every request that waits', async () => {
  const load = await start((_request, response) => {
    setTimeout(() => response.end('data: [DONE]\n\n'), 100)
  }, 1)
  const { count, wholeMs } = await load.fixedRate(50, 0.2)
  expect(count).toBe(10)
  // Requests are sequential: the last is due after about 0.2 s and waits for most of a second.
  expect(wholeMs.at(-1)).toBeGreaterThan(600)
})

test('times to the first and the last byte are measured separately', async () => {
  const load = await start(async (_request, response) => {
    response.write('data: {}\n\n')
    // In many turns: after one that took long, the load generator has not read the first byte yet.
    for (let turn = 0; turn < 20; turn++) await sleep(5)
    response.end('data: [DONE]\n\n')
  }, 1)
  const { firstByteMs, wholeMs } = await load.count(1)
  expect((wholeMs[0] ?? 0) - (firstByteMs[0] ?? 0)).toBeGreaterThan(50)
})

/** Starts a server and a load on it; both end with the test. */
async function start(
  listener: (request: IncomingMessage, response: ServerResponse) => unknown,
  connections: number,
): Promise<Load> {
  const server = createServer((request, response) => {
    request.resume()
    listener(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port')
  const origin = `http://127.0.0.1:${address.port}`
  const load = openLoad({ origin, path: '/', headers: {}, body: '{}', ending: 'data: [DONE]' }, connections)
  onTestFinished(async () => {
    await load.close()
    server.close()
    server.closeAllConnections()
  })
  return load
}
