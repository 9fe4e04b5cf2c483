/** A real node behind a TLS proxy: the real gateway calls it there, and streams come through. */
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import { request } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Completion } from '@copal/shared/wire/completions.ts'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { freePort } from '../../infra/local/processes/ports.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { startNodeProcess, type NodeProcess } from '../support/processes/node-process.ts'
import { until } from '../support/processes/service.ts'

const certificate = (name: string) => fileURLToPath(new URL(`../fixtures/tls/${name}.pem`, import.meta.url))
let fleet: TestFleet
let node: NodeProcess
let front: Server
/** Calls that passed the proxy. */
const passed: string[] = []

beforeAll(async () => {
  // The gateway's workerd inherits it.
  vi.stubEnv('NODE_EXTRA_CA_CERTS', certificate('ca'))
  fleet = await startFleet()
  const port = await freePort()
  const pem = readFileSync(certificate('server'))
  front = createServer({ cert: pem, key: pem }, (from, to) => {
    passed.push(`${from.method} ${from.url}`)
    const { method, url, headers } = from
    const inner = request({ host: '127.0.0.1', port, method, path: url, headers }, (answer) => {
      to.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(to)
    })
    inner.on('error', () => to.destroy())
    from.pipe(inner)
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  node = startNodeProcess({
    ...(await fleet.environment('node-tls')),
    COPAL_NODE_PORT: String(port),
    COPAL_NODE_URL: `https://127.0.0.1:${(front.address() as AddressInfo).port}`,
  })
  await node.ready()
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await node?.end('SIGKILL')
  front?.closeAllConnections()
  front?.close()
  await fleet?.stop()
})

test('a node with an https URL is called there, streamed and not streamed', async () => {
  const { key } = await fleet.key()
  const ask = (stream: boolean) =>
    fetch(`${fleet.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny', prompt: 'the cat', max_tokens: 8, temperature: 0, stream }),
    })
  await until('the node', async () => (await fleet.alive()).includes('node-tls') || undefined)
  const whole = await ask(false)
  const { choices } = (await whole.json()) as Completion
  expect([whole.status, whole.headers.get('x-copal-node')]).toEqual([200, 'node-tls'])
  const events = (await (await ask(true)).text()).split('\n\n').filter((event) => event.startsWith('data: {'))
  const text = events.map((event) => (JSON.parse(event.slice(6)) as Completion).choices[0]?.text ?? '')
  expect(text.length).toBeGreaterThan(2)
  expect(text.join('')).toBe(choices[0]?.text)
  // Calls of `/health`, for a node that is silent for a moment, pass the proxy too.
  const calls = passed.filter((call) => call.startsWith('POST'))
  expect(calls).toEqual(['POST /rpc/completions', 'POST /rpc/completions'])
})
