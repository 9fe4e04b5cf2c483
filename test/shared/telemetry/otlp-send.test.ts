import { createServer, type RequestListener } from 'node:http'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { sendOtlp } from '../../../shared/src/telemetry/otlp-send.ts'

/** Starts a collector on this machine, for one test. */
async function collector(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}

test('a collector that redirects gets no headers for another server', async () => {
  const received: unknown[] = []
  const other = await collector((req, res) => {
    received.push(req.headers['api-key'])
    res.end()
  })
  const url = await collector((_, res) => res.writeHead(307, { location: other }).end())
  expect(await sendOtlp({ url, headers: { 'api-key': 'a-secret' } }, {})).toBe(
    `the collector at ${url} answered HTTP 307`,
  )
  expect(received).toEqual([])
})

test('the reason names the collector without the parameters of its address, which may be a secret', async () => {
  const url = await collector((_, res) => res.writeHead(403).end())
  expect(await sendOtlp({ url: `${url}/v1/logs?key=a-secret`, headers: {} }, {})).toBe(
    `the collector at ${url}/v1/logs answered HTTP 403`,
  )
  const lost = await sendOtlp({ url: 'http://127.0.0.1:1/v1/logs?key=a-secret', headers: {} }, {})
  expect(lost).toContain('http://127.0.0.1:1/v1/logs: ')
  expect(lost).not.toContain('a-secret')
})
