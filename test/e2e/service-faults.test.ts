/**
 * A service that is killed in parts, as its operator and its clients see it: `npm start` with the tiny model. The tests
 * share one service and run in order: each starts where the one before left the fleet.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ImportedMask, MaskEntry, StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openModel } from '../../gpu-node/src/model/open-model.ts'
import { killNode, nodePids } from '../support/faults/kill-node.ts'
import { isStopped, stopAtProgress } from '../support/faults/stop-at-progress.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { createTinyLlama } from '../support/models/tiny-llama.ts'
import { activateUnproven } from '../support/processes/activate-mask.ts'
import { post } from '../support/processes/service-calls.ts'
import {
  commandLine,
  untilConverged,
  startService,
  until,
  untilUpdateEnded,
  type Service,
} from '../support/processes/service.ts'
import { passages } from '../support/text/passages.ts'

const MODEL = 'tiny'
const END_TOKEN = 2
/** An update whose calibration takes a second on the tiny model, so that its gateway can be killed while it runs. */
const LONG_UPDATE = { samples: 64, length: 512 }

/** The limit, and the longest time between two looks, of what lasts only seconds. */
const OFTEN = [600_000, 100] as const

let dir: string
let service: Service
let client: OpenAI
const environment = () => ({
  COPAL_MODEL: join(dir, MODEL),
  COPAL_CACHE: join(dir, 'cache'),
  COPAL_FIRST_UPDATE: 'off',
  ...stopAtProgress('calibrating novel, block 2 of', join(dir, 'stopped')),
})

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'copal-service-faults-'))
  await createTinyLlama(join(dir, MODEL), { layers: 8, contextLength: 16_384 })
  service = await startService({ home: join(dir, 'home'), migrated: true, env: environment() })
  client = openai(service)
  const model = await openModel(join(dir, MODEL), { cacheDir: join(dir, 'cache') })
  // The masks m1 and m2: only a mask that was active before can be restored.
  for (const seed of [1, 2]) await importMask(randomHalfMask(model, seed).bytes)
  // A canary waits for the watch over the mask before it, by default an hour.
  await service.setPolicy({ watch: { soak_minutes: 0 } })
  for (const domain of ['speech', 'novel'])
    await service.admin('POST', `/admin/domains/${domain}/texts`, {
      texts: passages(`${domain}.calibration.txt`, 120),
    })
})
afterAll(async () => {
  await service?.stop()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

test('after kill -9 of the node during calibration the update is carried on and promoted', async () => {
  const before = await service.admin<StatusReport>('GET', '/admin/status')
  const update = await service.admin<UpdateEntry>('POST', '/admin/updates', {
    domains: ['novel'],
  })
  const calibration = await until('calibration to stop in its middle', () =>
    service.pids('pruning-child').find(isStopped),
  )
  const node = killNode(service)
  // Without its node it ends by itself.
  process.kill(calibration, 'SIGCONT')
  const end = await untilUpdateEnded(service, update.id)
  expect(end).toMatchObject({ state: 'promoted', error: null })
  const after = await node.back()
  expect(after.models[0]?.active_version).toBeGreaterThan(before.models[0]?.active_version ?? 0)
})

test('after kill -9 of the node during a swap the node serves the mask that was asked for', async () => {
  for (const version of [1, 2]) {
    await service.admin('POST', '/admin/rollback', { version })
    await sleep(100 * version)
    const status = await killNode(service).back()
    expect(status.models[0]?.active_version).toBe(version)
    expect((await chat('Say hello.')).system_fingerprint).toBe(`copal-${MODEL}-m${version}`)
  }
})

test('without a node requests get a 503 with Retry-After, and streams that break end with an error', async () => {
  const stream = await client.completions.create({
    model: MODEL,
    prompt: 'One, two,',
    max_tokens: 12_000,
    temperature: 0.7,
    seed: 2,
    // It never ends by itself.
    logit_bias: { [END_TOKEN]: -100 },
    stream: true,
  })
  let node: ReturnType<typeof killNode> | undefined
  const broken = (async () => {
    for await (const chunk of stream) if (chunk.choices[0]?.text) node ??= killNode(service)
  })()
  await expect(broken).rejects.toThrow(/node/i)
  // Requests wait for a node that comes back soon, so this one is kept away.
  const keptAway = setInterval(() => {
    const pids = nodePids(service)
    if (pids.length > 0) node = killNode(service, pids)
  }, 100)
  const response = await until('a 503', async () => {
    const answer = await post(service, '/v1/chat/completions', {
      model: MODEL,
      messages: [{ role: 'user', content: 'Say hello.' }],
      max_tokens: 4,
    })
    return answer.status === 503 ? answer : undefined
  }).finally(() => clearInterval(keptAway))
  expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  await node?.back()
})

test('an update goes on after kill -9 of the gateway', async () => {
  const update = await service.admin<UpdateEntry>('POST', '/admin/updates', {
    domains: ['speech'],
    ...LONG_UPDATE,
  })
  await until('calibration to run', () => service.pids('pruning-child').length > 0 || undefined, ...OFTEN)
  for (const pid of service.pids('workerd')) process.kill(pid, 'SIGKILL')
  const end = await untilUpdateEnded(service, update.id)
  expect(end.state).toBe('promoted')
  await untilConverged(service)
  const { data } = await service.admin<{ data: MaskEntry[] }>('GET', '/admin/masks')
  expect(data.filter((mask) => mask.active)).toHaveLength(1)
})

test('a canary goes on after kill -9 of its node and of the gateway, and answers by two masks alone', async () => {
  // It lasts as long as the kills take, whatever is scored meanwhile.
  const canary = { enabled: true, share: 0.5, min_minutes: 0.2, max_minutes: 0.2, min_scored_tokens: 0 }
  // Masks of random weights differ more than the gate allows, which is not the point here.
  const gate = { max_regression: 10, max_regression_from_best: 10, max_refresh_regression: 10 }
  await service.setPolicy({ gate, canary, watch: { soak_minutes: 0 } })
  const parent = (await service.admin<StatusReport>('GET', '/admin/status')).models[0]?.active_version
  const { id } = await service.admin<UpdateEntry>('POST', '/admin/updates', { domains: ['speech'] })
  const begun = await until(
    'the canary',
    async () => {
      const { state, finished_at, message } = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
      return state === 'canary' || finished_at !== null ? `${state}: ${message}` : undefined
    },
    ...OFTEN,
  )
  expect(begun).toMatch(/^canary/)
  const node = killNode(service)
  for (const pid of service.pids('workerd')) process.kill(pid, 'SIGKILL')
  await node.back()
  const answers: string[] = []
  const ended = untilUpdateEnded(service, id)
  for (let turn = 0; turn < 12; turn += 1)
    answers.push((await chat(`Conversation ${turn}.`)).system_fingerprint ?? '')
  const end = await ended
  expect(end).toMatchObject({ state: 'promoted', error: null })
  const both = [parent, end.mask_version].map((version) => `copal-${MODEL}-m${version}`)
  expect(answers.filter((name) => !both.includes(name))).toEqual([])
  const { decisions = [] } = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
  expect(decisions.map(({ kind, verdict }) => `${kind} ${verdict}`)).toEqual([
    'gate passed',
    'canary passed',
    'promote done',
  ])
  await untilConverged(service)
})

test('a second start keeps keys, masks and domains', async () => {
  const before = await service.admin<StatusReport>('GET', '/admin/status')
  const first = service
  const pids = first.pids('')
  await first.stop({ keep: true })
  expect(pids.map(commandLine).filter(Boolean)).toEqual([])
  service = await startService({ home: first.home, env: environment() })
  client = openai(service)
  const after = await untilConverged(service)
  expect(after.models[0]?.active_version).toBe(before.models[0]?.active_version)
  expect(service.apiKey).toBe(first.apiKey)
  const { data } = await service.admin<{ data: { name: string }[] }>('GET', '/admin/domains')
  expect(data.map(({ name }) => name)).toEqual(expect.arrayContaining(['novel', 'speech']))
  expect((await chat('Say hello.')).system_fingerprint).toBe(
    `copal-${MODEL}-m${after.models[0]?.active_version}`,
  )
})

function openai(target: Service): OpenAI {
  return new OpenAI({ baseURL: `${target.baseUrl}/v1`, apiKey: target.apiKey, maxRetries: 0 })
}

function chat(content: string) {
  return client.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content }],
    max_tokens: 8,
    temperature: 0,
  })
}

async function importMask(file: Uint8Array<ArrayBuffer>): Promise<void> {
  const sha256 = createHash('sha256').update(file).digest('hex')
  const response = await fetch(`${service.baseUrl}/admin/masks/${sha256}?activate=true`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${service.adminKey}` },
    body: file,
  })
  if (!response.ok) throw new Error(`the mask was rejected: ${await response.text()}`)
  const { update } = (await response.json()) as ImportedMask
  await activateUnproven((method, path, body) => service.admin(method, path, body), update)
}
