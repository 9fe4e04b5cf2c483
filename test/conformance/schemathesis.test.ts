import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'
import { startService, type Service } from '../support/processes/service.ts'
import { seedResources, type NamedResource } from '../support/processes/seed-resources.ts'
import { createTinyLlama } from '../support/models/tiny-llama.ts'

/**
 * The checks of every response. They do not require success, which the schema cannot promise. A 503 is documented and fails
 * nevertheless: no part is missing here, and a busy node is a 429.
 */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'unsupported_method',
  'allow_header_conformance',
  'ignored_auth',
]
const COMMON = [
  // Its response does not end.
  '--exclude-path',
  '/admin/events',
  '--checks',
  CHECKS.join(','),
  '--seed',
  '1',
  '--continue-on-failure',
  '--no-color',
  '--request-timeout',
  '300',
  '--warnings',
  'off',
]

let dir: string
// A service of its own, because the requests would disturb other tests.
let service: Service
let schemathesis: PythonPackage

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'copal-schemathesis-'))
  await createTinyLlama(join(dir, 'tiny'), { contextLength: 512, tied: false })
  schemathesis = await pythonPackage('schemathesis', '4.32.5')
  service = await startService({
    migrated: true,
    env: {
      COPAL_MODEL: join(dir, 'tiny'),
      COPAL_CACHE: join(dir, 'cache'),
      COPAL_FIRST_UPDATE: 'off',
      // A node that a busy machine stops for a while is not missing.
      COPAL_NODE_SILENT_MS: '60000',
      COPAL_NODE_DEAD_MS: '120000',
      // Most of its requests are refused, and none is to wait for that.
      COPAL_REFUSALS_PER_SECOND: '0',
    },
  })
})
afterAll(async () => {
  await service?.stop()
  await rm(dir, { recursive: true, force: true })
})

/**
 * The extent of a run. The cases and their order are the same everywhere, because there is no `--max-time`: a slow machine
 * would not reach the last cases, and a fast one would repeat the random ones until the time ends.
 */
interface Effort {
  /** Random examples of each operation. */
  examples: number
  /** Existing resources that requests name, by operation. */
  named?: Record<string, NamedResource>
  /** Default: the document of the service. */
  document?: string
}

/** How often each operation responded with each status. */
type Counts = Map<string, Map<number, number>>

/** Tests operations of the document, and throws when a response does not match it. */
async function tryOut(key: string, effort: Effort, ...args: string[]): Promise<Counts> {
  const { stdout, exitCode, counts } = await run(key, effort, ...args)
  if (exitCode !== 0) throw new Error(`${stdout}\n${service.output()}`)
  return counts
}

async function run(
  key: string,
  { examples, named = {}, document = `${origin()}/openapi.json` }: Effort,
  ...args: string[]
): Promise<{ stdout: string; exitCode: number; counts: Counts }> {
  const answers = join(dir, 'answers.jsonl')
  const config = join(import.meta.dirname, 'schemathesis.toml')
  const bounds = ['--max-examples', String(examples)]
  const { stdout, exitCode } = await schemathesis.run(
    ['-m', 'schemathesis.cli', '--config-file', config, 'run', document, ...COMMON, ...bounds, ...args],
    {
      cwd: dir,
      modules: [import.meta.dirname],
      env: {
        COPAL_KEY: key,
        COPAL_ANSWERS: answers,
        COPAL_NAMED: JSON.stringify(named),
        SCHEMATHESIS_HOOKS: 'schemathesis_hooks',
      },
    },
  )
  const counts: Counts = new Map()
  for (const line of (await readFile(answers, 'utf8')).trim().split('\n')) {
    const [operation, status] = JSON.parse(line) as [string, number]
    const own = counts.get(operation) ?? new Map<number, number>()
    counts.set(operation, own.set(status, (own.get(status) ?? 0) + 1))
  }
  return { stdout, exitCode, counts }
}

const origin = () => new URL(service.baseUrl).origin

test('each operation succeeds for some requests that the document allows', async () => {
  const named = await seedResources(service, dir, join(dir, 'tiny'))
  const phases = ['--phases', 'fuzzing', '--mode', 'positive']
  const counts = new Map([
    ...(await tryOut(service.apiKey, { examples: 10, named }, '--include-tag', 'Inference', ...phases)),
    ...(await tryOut(service.adminKey, { examples: 3, named }, '--exclude-tag', 'Inference', ...phases)),
  ])
  const unsaid = Object.entries((await readDocument()).paths)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`))
    .filter((name) => ![...(counts.get(name)?.keys() ?? [])].some((status) => status < 300))
    // It succeeds only if Schemathesis happens to send a key that it saw in an answer.
    .filter((name) => name !== 'POST /dashboard/session')
  expect(unsaid.toSorted()).toEqual(
    [
      // Schemathesis does not request the document that it tests.
      'GET /openapi.json',
      // See COMMON, and overview-routes.test.ts.
      'GET /admin/events',
      // They need a cookie: session-routes.test.ts.
      ...['DELETE', 'GET'].map((method) => `${method} /dashboard/session`),
      // They need texts that were described and clustered, or set aside: proposal-routes.test.ts, review-routes.test.ts.
      ...['accept', 'merge', 'discard'].map((verb) => `POST /admin/proposals/{id}/${verb}`),
      ...['keep', 'drop'].map((verb) => `POST /admin/domains/{domain}/review/{id}/${verb}`),
      // They need a promoted mask that knows the domain: own-mask.test.ts.
      ...['DELETE', 'POST'].map((method) => `${method} /admin/domains/{domain}/mask`),
    ].toSorted(),
  )
})

test('a response that is not documented fails: its status, its error code, its headers', async () => {
  const document = await readDocument()
  const responsesOf = (path: string) => {
    const operation = document.paths[path]?.['get']
    if (!operation) throw new Error(`the document has no GET ${path}`)
    // The key alone: of several ways to authenticate Schemathesis leaves out one at a time, and no request would be refused.
    operation.security = [{ key: [] }]
    return operation.responses
  }
  const [list, one] = [responsesOf('/v1/models'), responsesOf('/v1/models/{id}')]
  list['200'] = { ...list['200'], headers: { 'x-none': { required: true, schema: {} } } }
  one['401'] = { $ref: '#/components/responses/not_found' }
  delete one['200']
  const path = join(dir, 'wrong.json')
  await writeFile(path, JSON.stringify(document))
  const args = ['--url', origin(), '--include-path-regex', '^/v1/models', '--phases', 'coverage,fuzzing']
  const { stdout, exitCode } = await run(service.apiKey, { examples: 3, document: path }, ...args)
  expect(exitCode).toBe(1)
  expect(stdout).toContain('Missing required response headers: 1')
  expect(stdout).toContain('"invalid_api_key" is not one of "not_found"')
  expect(stdout).toContain('Received: 200')
})

test('no request to inference causes a failure, and every response matches the document', async () => {
  const effort = { examples: 10 }
  const phases = ['--phases', 'coverage,fuzzing']
  const counts = await tryOut(service.apiKey, effort, '--include-tag', 'Inference', ...phases)
  expect(statusesOf(counts)).toEqual(expect.arrayContaining([200, 400, 401]))
})

test('no request to operators’ paths causes a failure, and every response matches the document', async () => {
  const effort = { examples: 2 }
  const phases = ['--phases', 'coverage,fuzzing']
  const counts = await tryOut(service.adminKey, effort, '--exclude-tag', 'Inference', ...phases)
  expect(statusesOf(counts)).toEqual(expect.arrayContaining([200, 400, 401]))
})

/** Returns the statuses of all operations together. */
function statusesOf(counts: Counts): number[] {
  return [...new Set([...counts.values()].flatMap((own) => [...own.keys()]))]
}

async function readDocument() {
  const response = await fetch(`${origin()}/openapi.json`)
  return (await response.json()) as {
    paths: Record<string, Record<string, { security: object[]; responses: Record<string, object> }>>
  }
}
