import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, stat, truncate } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import type { ModelProgress } from '../../../../gpu-node/src/platform/progress.ts'
import { fetchHubModel } from '../../../../gpu-node/src/model/source/hub-source.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const COMMIT = '0123456789abcdef0123456789abcdef01234567'

interface Hub {
  url: string
  /** The newest commit of the repository. */
  commit: string
  /** Paths of the requested files. */
  served: string[]
  /** Paths of files of which the client did not take all bytes. */
  cut: string[]
  /** The credentials of all requests, each once. */
  credentials: Set<string | undefined>
  /** Changes the response to a file's download. */
  spoil: Map<string, (content: Buffer) => Buffer>
  /** Files are sent after it settles. */
  gate: Promise<void>
}

/** A server with the hub's responses for one repository, on loopback. The client is the real one. */
async function startHub(files: ReadonlyMap<string, Buffer>, status = 200): Promise<Hub> {
  const hub: Hub = {
    url: '',
    commit: COMMIT,
    served: [],
    cut: [],
    credentials: new Set(),
    spoil: new Map(),
    gate: Promise.resolve(),
  }
  const server: Server = createServer((request, response) => {
    hub.credentials.add(request.headers.authorization)
    const url = new URL(request.url ?? '/', 'http://hub')
    const json = (value: unknown) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    const [, path] = new RegExp(`^/org/tiny/resolve/${hub.commit}/(.+)$`).exec(url.pathname) ?? []
    if (status !== 200)
      response.writeHead(status, { 'content-type': 'application/json' }).end('{"error":"no"}')
    else if (url.pathname.startsWith('/api/models/org/tiny/revision/'))
      json({ id: 'org/tiny', _id: '1', sha: hub.commit })
    else if (url.pathname === `/api/models/org/tiny/tree/${hub.commit}`) json([...files].map(treeEntry))
    else if (path !== undefined && files.has(path)) {
      const content = files.get(path)!
      const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
      const from = Number(start ?? 0)
      const to = end === undefined || end === '' ? content.length : Number(end) + 1
      const sent = (hub.spoil.get(path) ?? ((whole) => whole))(content).subarray(
        from,
        start === undefined ? undefined : to,
      )
      if (start === undefined) hub.served.push(path)
      response.on('close', () => {
        if (!response.writableFinished) hub.cut.push(path)
      })
      response.writeHead(start === undefined ? 200 : 206, {
        etag: '"1"',
        'content-length': sent.length,
        'content-range': `bytes ${from}-${to - 1}/${content.length}`,
      })
      void (start === undefined ? hub.gate : Promise.resolve()).then(() => response.end(sent))
    } else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => new Promise((resolve) => server.close(() => resolve())))
  hub.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return hub
}

function treeEntry([path, content]: [string, Buffer]): object {
  const oid = createHash('sha256').update(content).digest('hex')
  const lfs = path.endsWith('.safetensors') ? { lfs: { oid, size: content.length, pointerSize: 130 } } : {}
  return { type: 'file', path, size: content.length, oid: '1', ...lfs }
}

async function tinyFiles(): Promise<Map<string, Buffer>> {
  const { dir } = await createTinyLlama(temporaryDir())
  const names = await readdir(dir)
  const files = new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(dir, name))] as const)),
  )
  return files.set('README.md', Buffer.from('not wanted')).set('pytorch_model.bin', Buffer.from('not wanted'))
}

test('a model of the hub is downloaded from one commit, and opened without the hub afterwards', async () => {
  const hub = await startHub(await tinyFiles())
  const cacheDir = temporaryDir()
  const progress: ModelProgress[] = []
  const options = { cacheDir, onProgress: (report: ModelProgress) => void progress.push(report) }
  const model = await openModel('hf:org/tiny', { ...options, hub: { url: hub.url } })
  expect(model).toMatchObject({ id: 'tiny', config: { vocabSize: 300, layers: 2 } })
  expect([...hub.served].sort()).toEqual([
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ])
  const downloads = progress.filter(({ stage }) => stage === 'download')
  expect(downloads.at(-1)!.doneBytes).toBe(downloads.at(-1)!.totalBytes)
  expect(await readdir(join(cacheDir, 'downloads/hf'))).toEqual(['org--tiny'])

  expect(await openModel('hf:org/tiny', { ...options, hub: { url: 'http://127.0.0.1:1' } })).toMatchObject({
    id: 'tiny',
  })
})

test('a damaged file is not kept, and intact files are not downloaded twice', async () => {
  const hub = await startHub(await tinyFiles())
  const cacheDir = temporaryDir()
  hub.spoil.set('model.safetensors', (content) => Buffer.from(content).fill(1, 1000, 1001))
  const fetchAgain = () => fetchHubModel('org/tiny', { cacheDir, hub: { url: hub.url } })
  await expect(fetchAgain()).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('model.safetensors of hf:org/tiny arrived damaged'),
  })
  hub.spoil.clear()
  hub.served.length = 0
  await fetchAgain()
  expect(hub.served).not.toContain('config.json')
  expect(hub.served).toContain('model.safetensors')
})

test('a file that is longer than the hub lists it is not received to its end', async () => {
  const hub = await startHub(await tinyFiles())
  hub.spoil.set('model.safetensors', (content) => Buffer.concat([content, Buffer.alloc(2 ** 25)]))
  const fetching = fetchHubModel('org/tiny', { cacheDir: temporaryDir(), hub: { url: hub.url } })
  await expect(fetching).rejects.toThrow('model.safetensors of hf:org/tiny arrived damaged')
  await expect.poll(() => hub.cut).toEqual(['model.safetensors'])
})

test('an unfinished download of an earlier commit does not stay beside the model', async () => {
  const hub = await startHub(await tinyFiles())
  const options = { cacheDir: temporaryDir(), hub: { url: hub.url } }
  hub.spoil.set('model.safetensors', (content) => Buffer.from(content).fill(1, 1000, 1001))
  await expect(fetchHubModel('org/tiny', options)).rejects.toMatchObject({ code: 'unsupported_model' })
  const other = `org--tiny.v2.${COMMIT}.partial`
  await mkdir(join(options.cacheDir, 'downloads/hf', other))
  hub.spoil.clear()
  hub.commit = COMMIT.replace('0', 'f')
  await fetchHubModel('org/tiny', options)
  expect((await readdir(join(options.cacheDir, 'downloads/hf'))).sort()).toEqual(['org--tiny', other])
})

test('if two processes download the same model, the slower one uses the files of the other', async () => {
  const files = await tinyFiles()
  const [slow, fast] = [await startHub(files), await startHub(files)]
  const { promise, resolve: open } = Promise.withResolvers<void>()
  slow.gate = promise
  const cacheDir = temporaryDir()
  const slower = fetchHubModel('org/tiny', { cacheDir, hub: { url: slow.url } })
  await vi.waitUntil(() => slow.served.length > 0, WAIT)
  const faster = await fetchHubModel('org/tiny', { cacheDir, hub: { url: fast.url } })
  open()
  expect(await slower).toEqual(faster)
  expect(await readdir(join(cacheDir, 'downloads/hf'))).toEqual(['org--tiny'])
})

test('a damaged cached model is downloaded again', async () => {
  const hub = await startHub(await tinyFiles())
  const options = { cacheDir: temporaryDir(), hub: { url: hub.url } }
  const files = await fetchHubModel('org/tiny', options)
  const weights = files.kind === 'directory' ? files.weights : ''
  await truncate(weights, 1000)
  hub.served.length = 0
  expect(await fetchHubModel('org/tiny', options)).toEqual(files)
  expect(hub.served).toContain('model.safetensors')
  expect((await stat(weights)).size).toBeGreaterThan(1000)
  expect(await readdir(join(options.cacheDir, 'downloads/hf'))).toEqual(['org--tiny'])
})

test('a repository without safetensors is an error before any download', async () => {
  const hub = await startHub(new Map([['model.gguf', Buffer.from('x')]]))
  await expect(
    fetchHubModel('org/tiny', { cacheDir: temporaryDir(), hub: { url: hub.url } }),
  ).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('holds no model.safetensors'),
  })
})

test('too little disk space is an error before any download', async () => {
  const hub = await startHub(await tinyFiles())
  const options = { cacheDir: temporaryDir(), hub: { url: hub.url }, freeBytes: () => Promise.resolve(10) }
  await expect(fetchHubModel('org/tiny', options)).rejects.toMatchObject({
    message: expect.stringContaining('No disk space'),
  })
  expect(hub.served).toEqual([])
})

test('HF_TOKEN is sent with every request, because gated models need it', async () => {
  const hub = await startHub(await tinyFiles())
  const fetchTiny = () => fetchHubModel('org/tiny', { cacheDir: temporaryDir(), hub: { url: hub.url } })
  onTestFinished(() => void vi.unstubAllEnvs())
  vi.stubEnv('HF_TOKEN', '')
  await fetchTiny()
  expect([...hub.credentials]).toEqual([undefined])
  hub.credentials.clear()
  vi.stubEnv('HF_TOKEN', 'hf_secret')
  await fetchTiny()
  expect([...hub.credentials]).toEqual(['Bearer hf_secret'])
})

test.each([
  [404, 'model_not_found', /The hub has no model org\/tiny/],
  [401, 'invalid_request', /HF_TOKEN/],
  [403, 'invalid_request', /HF_TOKEN/],
  [500, 'internal_error', /could not be fetched from the Hugging Face hub/],
])('status %i of the hub is an error that explains it', async (status, code, message) => {
  const hub = await startHub(new Map(), status)
  await expect(
    fetchHubModel('org/tiny', { cacheDir: temporaryDir(), hub: { url: hub.url } }),
  ).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message),
  })
})

test('without a network the error names the hub and says what to do', async () => {
  const hub = { url: 'http://127.0.0.1:1' }
  await expect(fetchHubModel('org/tiny', { cacheDir: temporaryDir(), hub })).rejects.toMatchObject({
    code: 'internal_error',
    message: expect.stringMatching(
      /could not be fetched from the Hugging Face hub .*Check the network, or give the path/,
    ),
  })
})

test.each(['tiny', 'org/tiny/file', '../etc/passwd', 'org/..'])('name %s is an error', async (name) => {
  await expect(fetchHubModel(name, { cacheDir: temporaryDir() })).rejects.toMatchObject({
    code: 'invalid_request',
  })
})
