import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { expect, onTestFinished } from 'vitest'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'

const ADMIN_KEY = 'the admin key'

/** The update that evaluates an imported mask. */
const EVALUATED = {
  id: 'upd_1',
  model: 'tiny',
  domains: ['legal'],
  method: 'copal',
  pattern: '0.5',
  patterns: {},
  scope: 'row',
  progress: 1,
  message: '',
  mask_version: 4,
  parent_version: 3,
  candidate: 1,
  trigger: 'manual',
  trigger_reason: '',
  created_at: '2026-11-27T00:00:00Z',
  finished_at: '2026-11-27T00:01:00Z',
  job: null,
}
/** The imported mask. */
const REGISTERED: MaskEntry = {
  model: 'tiny',
  version: 4,
  sha256: 'a'.repeat(64),
  parent_version: null,
  method: 'wanda',
  pattern: '0.5',
  scope: 'row',
  sparsity: 0.5,
  churn: null,
  domains: [],
  bytes: 1000,
  pinned: false,
  active: false,
  previous: false,
  created_at: '2026-11-26T23:00:00Z',
  promoted_at: null,
}

/** An upload of a client. */
export interface Upload {
  path: string
  query: Record<string, string>
  length: string | undefined
  body: Buffer
}

/** The behaviour of a {@link maskGateway} apart from taking files. */
export interface MaskGatewayOptions {
  /** Changes the file that it sends. */
  damage?: (bytes: Uint8Array) => Uint8Array
  /** When the imported mask was served before. */
  promotedAt?: string
  /** The mask serves already when it is imported. */
  isActive?: boolean
  /** How the update that evaluates the imported mask has ended; without it, the mask is active at once. */
  update?: { state: string; error: { code: string; message: string } | null }
}

/** Starts a gateway that has mask file m3 and takes others as m4, until the test has finished. */
export async function maskGateway(
  file: Uint8Array,
  { damage = (bytes) => bytes, promotedAt, isActive = false, update }: MaskGatewayOptions = {},
): Promise<{ env: Record<string, string>; uploads: Upload[] }> {
  const uploads: Upload[] = []
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '', 'http://gateway')
      expect(request.headers.authorization).toBe(`Bearer ${ADMIN_KEY}`)
      if (request.method === 'GET' && url.pathname === '/admin/masks/3/file') {
        response.writeHead(200, { etag: `"${sha256(file)}"` }).end(damage(file))
        return
      }
      if (update && url.pathname === '/admin/updates/upd_1') {
        const entry = { ...EVALUATED, ...update }
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(entry))
        return
      }
      if (url.pathname === '/admin/status') {
        response.destroy()
        return
      }
      const upload = {
        path: url.pathname,
        query: Object.fromEntries(url.searchParams),
        length: request.headers['content-length'],
        body: await bodyOf(request),
      }
      uploads.push(upload)
      const isActivated = upload.query['activate'] === 'true'
      const active = isActive || (isActivated && !update)
      const evaluation = isActivated && update ? { update: 'upd_1' } : {}
      const entry = { ...REGISTERED, active, promoted_at: promotedAt ?? null, ...evaluation }
      response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify(entry))
    })()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const env = {
    COPAL_BASE_URL: `http://127.0.0.1:${address.port}`,
    COPAL_ADMIN_KEY: ADMIN_KEY,
  }
  return { env, uploads }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** Returns the SHA-256 of bytes, in hex. */
export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
