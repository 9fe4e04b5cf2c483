import { Agent, get, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { listen } from '../../../gpu-node/src/platform/listener.ts'
import { untilSettled } from '../../support/harness/settled.ts'
import { bytesInSockets } from '../../support/processes/socket-queues.ts'

async function listenForTest() {
  const listener = await listen('127.0.0.1', 0)
  onTestFinished(() => listener.close(0))
  return listener
}

test('before the node can serve, it responds that it is starting', async () => {
  const { url, serve } = await listenForTest()
  const early = await fetch(`${url}/rpc/completions`, { method: 'POST', body: '{}' })
  expect(early.status).toBe(503)
  expect(early.headers.get('retry-after')).toBe('1')
  expect(await early.json()).toMatchObject({ error: { code: 'no_node_available' } })
  serve(() => new Response('now'))
  const response = await fetch(url)
  expect(await response.text()).toBe('now')
  // Proxies keep idle connections for up to 90 s.
  expect(response.headers.get('keep-alive')).toBe('timeout=120')
})

test('a port in use is an error that names it and says what to do', async () => {
  const { url } = await listenForTest()
  const port = Number(new URL(url).port)
  await expect(listen('127.0.0.1', port)).rejects.toThrow(`Port ${port} on 127.0.0.1 is in use`)
})

test('an address of another machine is an error that names it', async () => {
  await expect(listen('192.0.2.1', 0)).rejects.toThrow(/cannot listen on 192.0.2.1:0 .*COPAL_NODE_HOST/)
})

test('closing ends connections that do not end in time', async () => {
  const listener = await listen('127.0.0.1', 0)
  listener.serve(
    () =>
      new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([1])) })),
  )
  const response = await fetch(listener.url)
  await listener.close(10)
  await expect(response.text()).rejects.toThrow(/terminated/)
})

test('closing waits for open responses, and not for connections that stay open after them', async () => {
  const listener = await listen('127.0.0.1', 0)
  const called = Promise.withResolvers<void>()
  const body = Promise.withResolvers<string>()
  listener.serve(async () => {
    called.resolve()
    return new Response(await body.promise)
  })
  const agent = new Agent({ keepAlive: true })
  onTestFinished(() => agent.destroy())
  const read = new Promise<string>((resolve) =>
    get(listener.url, { agent }, (incoming) => resolve(text(incoming))),
  )
  await called.promise
  const closed = listener.close(600_000)
  body.resolve('whole')
  expect(await read).toBe('whole')
  // The agent keeps its connection.
  await closed
})

test.runIf(process.platform === 'linux')(
  'a body that is not read is produced only as far as the connection buffers it',
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
    const incoming = await new Promise<IncomingMessage>((resolve) => get(url, { agent: false }, resolve))
    onTestFinished(() => void incoming.destroy())
    await untilSettled(() => madeBytes)
    const kept = madeBytes - incoming.socket.bytesRead - bytesInSockets([Number(new URL(url).port)])
    expect(kept).toBeLessThan(256 * 1024)
    const before = madeBytes
    incoming.resume()
    await expect.poll(() => madeBytes).toBeGreaterThan(before)
  },
)
