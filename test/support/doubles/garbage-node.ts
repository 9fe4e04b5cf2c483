import { createServer } from 'node:http'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { onTestFinished } from 'vitest'
import type { TestFleet } from '../processes/fleet.ts'
import { withSqlite } from '../faults/gateway-sqlite.ts'
import { heartbeatOf } from './heartbeat.ts'

/** Starts a server that registers as a node and responds with HTML. */
export async function startGarbageNode(fleet: TestFleet): Promise<{
  calls: () => number
  beat: () => Promise<void>
  leave: () => Promise<void>
}> {
  let calls = 0
  const server = createServer((request, response) => {
    calls += 1
    request.resume()
    response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>It works!</h1>')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const { models } = await fleet.admin<{ models: { id: string }[] }>('GET', '/admin/status')
  const model = models[0]?.id ?? ''
  const { contextLength } = fleet.model.config
  const tell = async (changes: Partial<Heartbeat> = {}) => {
    const at = { id: 'garbage', url: `http://127.0.0.1:${address.port}` }
    const beat = heartbeatOf(at, model, {
      model: { id: model, baseSha256: baseSha256(fleet), contextLength, parameters: 1 },
      load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096, slots: 8 },
      methods: [],
      ...changes,
    })
    const path = '/internal/nodes/heartbeat'
    const body = new TextEncoder().encode(JSON.stringify(beat))
    const signed = { nodeId: 'garbage', to: 'gateway', method: 'POST', path, body } as const
    const headers = await signedHeaders(await fleet.nodeSecret('garbage'), signed, Date.now())
    const response = await fetch(fleet.url + path, { method: 'POST', headers, body })
    if (!response.ok) throw new Error(`the heartbeat was rejected: ${await response.text()}`)
  }
  return { calls: () => calls, beat: () => tell(), leave: () => tell({ draining: true, leaving: true }) }
}

/** Returns the base hash of the model in the gateway's database. */
function baseSha256({ stateDir }: TestFleet): string {
  return withSqlite(stateDir, 'database', (database) => {
    const row = database.prepare('SELECT base_sha256 FROM models').get() as { base_sha256: string }
    return row.base_sha256
  })
}
