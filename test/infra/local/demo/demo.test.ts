import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..', '..')

const NODE: NodeEntry = {
  id: 'node-1',
  model: 'm',
  url: 'http://127.0.0.1:8790',
  seen_ms_ago: 1,
  alive: true,
  draining: false,
  drained_by_operator: false,
  active_version: 0,
  weight_sets: [],
  running: 0,
  waiting: 0,
  leases: 0,
}
const STATUS: StatusReport = { version: '0.1.0', models: [], nodes: [NODE], updates_running: 0 }

test('a demo that is interrupted says so in one line', async () => {
  const gateway = createServer((request, response) => {
    const isStatus = request.url === '/admin/status'
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(isStatus ? STATUS : { data: [] }))
    // It now waits for the first update of a service that runs.
    if (!isStatus) demo.kill('SIGINT')
  }).listen(0, '127.0.0.1')
  await once(gateway, 'listening')
  const { port } = gateway.address() as AddressInfo
  const demo = spawn(process.execPath, [join(ROOT, 'infra', 'local', 'demo', 'demo.ts')], {
    env: {
      ...process.env,
      COPAL_BASE_URL: `http://127.0.0.1:${port}`,
      COPAL_ADMIN_KEY: 'copal-admin-test',
      // Nothing can be started there.
      COPAL_HOME: '/dev/null',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void demo.kill('SIGKILL'))
  const [printed, [code]] = await Promise.all([text(demo.stderr), once(demo, 'exit')])
  gateway.close()
  expect({ printed, code }).toEqual({ printed: 'copal: Interrupted.\n', code: 1 })
})
