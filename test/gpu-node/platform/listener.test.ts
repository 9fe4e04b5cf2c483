import { get, type IncomingMessage } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { listen } from '../../../gpu-node/src/platform/listener.ts'
import { untilSettled } from '../../support/harness/settled.ts'
import { bytesInSockets } from '../../support/processes/socket-queues.ts'

async function listenForTest() {
  const listener = await listen('127.0.0.1', 0)
  onTestFinished(() => listener.close(0))
  return listener
}

test('before the node can serve, it answers that it is starting', async () => {
  const { url, serve } = await listenForTest()
  const early = await fetch(`${url}/rpc/completions`, { method: 'POST', body: '{}' })
  expect(early.status).toBe(503)
  expect(early.headers.get('retry-after')).toBe('1')
  expect(await early.json()).toMatchObject({ error: { code: 'no_node_available' } })
  serve(() => new Response('now'))
  expect(await (await fetch(url)).text()).toBe('now')
})

test('a port that is taken is named, with what to do', async () => {
  const { url } = await listenForTest()
  const port = Number(new URL(url).port)
  await expect(listen('127.0.0.1', port)).rejects.toThrow(`Port ${port} on 127.0.0.1 is in use`)
})

test('an address that is not of this machine is named', async () => {
  await expect(listen('192.0.2.1', 0)).rejects.toThrow(/cannot listen on 192.0.2.1:0 .*COPAL_NODE_HOST/)
})

test('closing breaks what does not end in time', async () => {
  const listener = await listen('127.0.0.1', 0)
  listener.serve(
    () =>
      new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([1])) })),
  )
  const response = await fetch(listener.url)
  await listener.close(10)
  await expect(response.text()).rejects.toThrow(/terminated/)
})

test.runIf(process.platform === 'linux')(
  'of a body that nobody reads no more is made than the connection takes',
  async () => {
    const { url, serve } = await listenForTest()
    const chunk = new Uint8Array(16 * 1024)
    let madeBytes = 0
    serve(
      () =>
        new Response(
          new ReadableStream({
            pull(controller) {
              controller.enqueue(chunk)
              madeBytes += chunk.byteLength
            },
          }),
        ),
    )
    const answer = await new Promise<IncomingMessage>((resolve) => get(url, { agent: false }, resolve))
    onTestFinished(() => void answer.destroy())
    await untilSettled(() => madeBytes)
    const kept = madeBytes - answer.socket.bytesRead - bytesInSockets([Number(new URL(url).port)])
    expect(kept).toBeLessThan(256 * 1024)
    const before = madeBytes
    answer.resume()
    await expect.poll(() => madeBytes).toBeGreaterThan(before)
  },
)
