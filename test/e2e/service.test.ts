/**
 * The main job on the real model, as a client and an operator see it. The tests share one service
 * and run in order: each starts where the one before left the fleet. Kills: `service-faults.test.ts`.
 */
import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DriftReport, MaskEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { GeneralHoldout } from '@copal/shared/wire/admin-holdout.ts'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { splitBundledText } from '../../gpu-node/cli/input/bundled-text.ts'
import { ROOT } from '../../infra/local/toolchain/toolchain.mjs'
import {
  untilConverged,
  startService,
  until,
  untilUpdateEnded,
  type Service,
} from '../support/processes/service.ts'
import { passages, passagesOf } from '../support/text/passages.ts'
import {
  completionTokens,
  importTexts,
  sendTraffic,
  untilSampled,
} from '../support/processes/service-calls.ts'
import { streamLoad, type StreamedResponse } from '../support/processes/stream-load.ts'

const MODEL = 'smollm2-135m-instruct'
const END_TOKEN = 2
/** One holdout of a domain and the general one are enough to tell a good mask from a bad one. */
const FEW_HOLDOUTS = { node_share: 1, max_holdouts: 1 }
/** Texts of a domain, many and short: about a quarter of them is held out, and with few it might be too little to judge a mask. */
const TEXTS = 180
/** Texts of `speech`, whose held-out ones must prove a gain. */
const SPEECH_TEXTS = 280
/**
 * Confidence with which they must prove it; that of a first candidate is 0.7. Under a mask of so little text the model may predict a single short text badly from some
 * word on, at two nats a token or more. With the default confidence such a text, if it is held out, hides the gain on the others.
 */
const GAIN_CONFIDENCE = 0.62
const TEXT_CHARACTERS = 190
/** Texts of `speech` that clients send. The others are imported: a node need not answer and score them all. */
const SENT_TEXTS = 16
/** Fewer than a domain has that was never updated, and more than the update of one leaves. */
const NEW_SEGMENTS = 16
/** A quarter of the text that an update takes by default. */
const LITTLE_TEXT = { samples: 4 }
/** A part of the packaged held-out text judges the masks of these tests as well, in a part of the time. */
const HELD_OUT_PART = 3
/** Pause between the streams of a load that is only to see which mask serves. */
const PAUSE_MS = 3_000
/** Pause between the streams of a load that a swap must meet in the middle of some. */
const SHORT_PAUSE_MS = 500
let service: Service
let client: OpenAI
/** The mask that the update of `speech` made: m2, or a further candidate if the gate had that one selected again. */
let adapted = 2

beforeAll(async () => {
  // A start that runs the migrations and makes the first mask itself, of more text: test/infra/local/start/start.test.ts.
  service = await startService({ migrated: true, env: { COPAL_FIRST_UPDATE: 'off' } })
  client = openai(service)
})
afterAll(async () => {
  await service.stop()
  rmSync(service.home, { recursive: true, force: true })
})

describe('the first start', () => {
  test('serves the dense model at once, then swaps to the first mask without a restart', async () => {
    const { texts, heldOut } = splitBundledText(ROOT)
    const judging = heldOut.filter((_, index) => index % HELD_OUT_PART === 0)
    const { holdout } = await service.admin<GeneralHoldout>('PUT', '/admin/holdout', { texts: judging })
    expect(holdout).toMatchObject({ version: 1, texts: judging.length })
    await importTexts(service, 'general', passagesOf(texts.join(' '), TEXTS, TEXT_CHARACTERS))
    await untilSampled(service, { general: TEXTS })
    await service.setPolicy({ effort: FEW_HOLDOUTS, calibration: LITTLE_TEXT })
    const { id } = await service.admin<UpdateEntry>('POST', '/admin/updates', { domains: ['general'] })
    const before = await chat('Say hello.')
    expect(await untilUpdateEnded(service, id)).toMatchObject({
      state: 'promoted',
      mask_version: 1,
      error: null,
    })
    await untilConverged(service)
    const after = await chat('Say hello.')
    expect(before.system_fingerprint).toBe(`copal-${MODEL}-m0`)
    expect(after.system_fingerprint).toBe(`copal-${MODEL}-m1`)
  })

  test('makes its credentials readable by the owner only', () => {
    expect(statSync(join(service.home, 'credentials.json')).mode & 0o777).toBe(0o600)
    expect(service.output()).toContain(service.baseUrl)
  })
})

describe('the OpenAI client', () => {
  test('gets chat completions with usage and the mask in a header', async () => {
    const { data, response } = await client.chat.completions
      .create({
        model: MODEL,
        messages: [{ role: 'user', content: 'What is the capital of France?' }],
        max_tokens: 12,
        temperature: 0,
      })
      .withResponse()
    expect(data.choices[0]?.message.content).not.toBe('')
    expect(data.usage?.total_tokens).toBe(
      (data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0),
    )
    expect(response.headers.get('x-copal-mask')).toBe('1')
    expect(response.headers.get('x-copal-node')).toBeTruthy()
    expect(response.headers.get('x-copal-domain')).toBe('default')
  })

  test('gets the same text streamed and not streamed', async () => {
    const request = {
      model: MODEL,
      messages: [{ role: 'user' as const, content: 'List three animals.' }],
      max_tokens: 24,
      temperature: 0,
    }
    const whole = await client.chat.completions.create(request)
    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    })
    let text = ''
    let usage: OpenAI.CompletionUsage | null | undefined
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage ?? usage
    }
    expect(text).toBe(whole.choices[0]?.message.content)
    // The number of cached prompt tokens may differ.
    const { prompt_tokens_details: _, ...counts } = whole.usage!
    expect(usage).toMatchObject(counts)
  })

  test('gets log-probabilities whose alternatives are sorted and hold the greedy token', async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'user', content: 'Name a colour.' }],
      max_tokens: 5,
      temperature: 0,
      logprobs: true,
      top_logprobs: 3,
    })
    const tokens = answer.choices[0]?.logprobs?.content ?? []
    expect(tokens.length).toBeGreaterThan(0)
    for (const token of tokens) {
      expect(token.top_logprobs).toHaveLength(3)
      expect(token.top_logprobs[0]?.token).toBe(token.token)
      expect(token.logprob).toBeCloseTo(token.top_logprobs[0]?.logprob ?? Number.NaN, 5)
    }
  })

  test('gets the same text for the same seed and another text for another seed', async () => {
    const draw = async (seed: number) => {
      const answer = await client.completions.create({
        model: MODEL,
        prompt: 'Once upon a time',
        max_tokens: 24,
        temperature: 1,
        seed,
      })
      return answer.choices[0]?.text
    }
    expect(await draw(7)).toBe(await draw(7))
    expect(await draw(7)).not.toBe(await draw(8))
  })

  test('ends the generation by disconnecting', async () => {
    const before = await completionTokens(service)
    const controller = new AbortController()
    const stream = await client.completions.create(
      {
        model: MODEL,
        prompt: 'Count to one thousand: one, two,',
        max_tokens: 1500,
        temperature: 0.7,
        seed: 1,
        // It never ends by itself.
        logit_bias: { [END_TOKEN]: -100 },
        stream: true,
      },
      { signal: controller.signal },
    )
    for await (const chunk of stream) if (chunk.choices[0]?.text) break
    controller.abort()
    const made = await until('its end', async () => (await completionTokens(service)) - before || undefined)
    expect(made).toBeLessThan(750)
  })
})

describe('adaptation', () => {
  test('traffic with consent is sampled, other traffic is not', async () => {
    // First: the node scores a bounded number of texts that wait, and the others follow at once.
    await sendTraffic(client, MODEL, 'novel', passages('novel.calibration.txt', 8, 600), true)
    const speech = passages('speech.calibration.txt', SPEECH_TEXTS, TEXT_CHARACTERS)
    await sendTraffic(client, MODEL, 'speech', speech.slice(0, SENT_TEXTS), true)
    await sendTraffic(client, MODEL, 'private', passages('novel.evaluation.txt', 3), false)
    await untilSampled(service, { speech: SENT_TEXTS, novel: 8 })
    await importTexts(service, 'speech', speech.slice(SENT_TEXTS))
    const domains = await untilSampled(service, { speech: SPEECH_TEXTS })
    expect(domains.find((domain) => domain.name === 'private')?.samples ?? 0).toBe(0)
  })

  test('a domain is updated by itself, and no stream that runs meanwhile fails or mixes two masks', async () => {
    // A canary waits for the watch over the mask before it, by default an hour.
    const byItself = { enabled: true, cooldown_minutes: 0, new_segments: NEW_SEGMENTS }
    // By default the first candidate is right at the limit, and a second one takes minutes.
    const policy = {
      gate: { confidence: GAIN_CONFIDENCE, max_regression: 1.3, max_regression_from_best: 1.3 },
      watch: { soak_minutes: 0 },
      effort: FEW_HOLDOUTS,
      calibration: LITTLE_TEXT,
    }
    await service.setPolicy({ ...policy, triggers: byItself })
    service.fireCron()
    const update = await until('an update that starts by itself', async () => {
      const { data } = await service.admin<{ data: UpdateEntry[] }>('GET', '/admin/updates')
      return data.find(({ trigger }) => trigger !== 'manual')
    })
    await service.setPolicy(policy)
    expect(update).toMatchObject({ domains: ['speech'], trigger: 'volume' })
    await until('the update to be near its swap', async () => {
      const { progress, finished_at } = await service.admin<UpdateEntry>('GET', `/admin/updates/${update.id}`)
      return progress > 0.9 || finished_at !== null ? true : undefined
    })
    const load = streamLoad(client, MODEL, 2, SHORT_PAUSE_MS)
    onTestFinished(async () => void (await load.stop()))
    const end = await untilUpdateEnded(service, update.id)
    if (end.state !== 'promoted') {
      // With the figures of the gate, and the perplexities of all masks.
      const whole = await service.admin<object>('GET', `/admin/updates/${update.id}`)
      const drift = await service.admin<DriftReport>('GET', '/admin/drift')
      process.stderr.write(`${JSON.stringify([whole, drift])}\n`)
    }
    expect(end).toMatchObject({ state: 'promoted', error: null })
    adapted = end.mask_version ?? 0
    await untilConverged(service)
    const isOfNewMask = ({ fingerprints }: StreamedResponse) => fingerprints.at(-1)?.endsWith(`-m${adapted}`)
    await until('an answer of the new mask', () => load.answers.some(isOfNewMask) || undefined)
    const answers = await load.stop()
    expect(adapted).toBeGreaterThan(1)
    expect(answers.filter((answer) => answer.error)).toEqual([])
    expect(new Set(answers.flatMap((answer) => answer.fingerprints.length))).toEqual(new Set([1]))
    const versions = new Set(answers.map((answer) => answer.fingerprints[0]))
    expect(versions).toEqual(new Set([`copal-${MODEL}-m1`, `copal-${MODEL}-m${adapted}`]))
    for (const version of [1, adapted]) {
      await rollbackTo(version)
      const sample = answers
        .filter((answer) => answer.fingerprints[0] === `copal-${MODEL}-m${version}`)
        .slice(-4)
      for (const answer of sample) {
        const alone = await client.completions.create({
          model: MODEL,
          prompt: answer.prompt,
          max_tokens: 48,
          temperature: 0,
        })
        expect(alone.choices[0]?.text).toBe(answer.text)
      }
    }
  })

  test('uploading a stored mask again succeeds', async () => {
    const { data } = await service.admin<{ data: MaskEntry[] }>('GET', '/admin/masks')
    const { sha256 } = data.find(({ version }) => version === 1)!
    const headers = { authorization: `Bearer ${service.adminKey}` }
    const file = await fetch(`${service.baseUrl}/admin/masks/m1/file`, { headers })
    const body = await file.arrayBuffer()
    const url = `${service.baseUrl}/admin/masks/${sha256}`
    for (let times = 0; times < 3; times++) {
      const response = await fetch(url, { method: 'PUT', headers, body })
      expect(response.ok).toBe(true)
    }
  })

  test('the gate rejects a mask that ruins the model, with numbers, and no stream ever sees it', async () => {
    await service.setPolicy({ watch: { soak_minutes: 0 }, effort: FEW_HOLDOUTS })
    const load = streamLoad(client, MODEL, 1, PAUSE_MS)
    onTestFinished(async () => void (await load.stop()))
    const { id } = await service.admin<UpdateEntry>('POST', '/admin/updates', {
      domains: ['general'],
      selection: { method: 'magnitude', pattern: '0.95' },
    })
    const end = await untilUpdateEnded(service, id)
    const answers = await load.stop()
    expect(end).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
    const { decisions = [] } = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
    const rejection = decisions.find(({ kind, verdict }) => kind === 'gate' && verdict === 'failed')
    const worst = rejection?.figures.filter(({ passed }) => !passed) ?? []
    expect(worst.length).toBeGreaterThan(0)
    for (const { value, upper, limit } of worst)
      expect(upper ?? value ?? Infinity).toBeGreaterThan(limit ?? Infinity)
    // The perplexity is some 10^5 times that under the active mask.
    expect(Math.max(...worst.map(({ value }) => value ?? 0))).toBeGreaterThan(100)
    const { data: masks } = await service.admin<{ data: MaskEntry[] }>('GET', '/admin/masks')
    expect(masks.find(({ active }) => active)?.version).toBe(adapted)
    expect(masks.find(({ version }) => version === end.mask_version)?.promoted_at).toBeNull()
    expect(answers.filter((answer) => answer.error)).toEqual([])
    expect(new Set(answers.flatMap(({ fingerprints }) => fingerprints))).toEqual(
      new Set([`copal-${MODEL}-m${adapted}`]),
    )
  })

  test('the canary rolls back a mask that is bad for live traffic, and no request fails', async () => {
    // The gate is told to let ten times the perplexity pass, so that only live traffic can tell.
    const lax = {
      max_regression: 10,
      max_regression_from_best: 10,
      max_refresh_regression: 10,
      max_dense_ratio: 1000,
    }
    const canary = { enabled: true, share: 0.5, shadow_share: 1, min_minutes: 5, max_minutes: 60 }
    await service.setPolicy({ gate: lax, canary, watch: { soak_minutes: 0 }, effort: FEW_HOLDOUTS })
    onTestFinished(async () => void (await service.setPolicy({})))
    const { id } = await service.admin<UpdateEntry>('POST', '/admin/updates', {
      domains: ['general'],
      selection: { method: 'magnitude', pattern: '0.5' },
    })
    const begun = await until('the canary', async () => {
      const { state, finished_at, message } = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
      return state === 'canary' || finished_at !== null ? `${state}: ${message}` : undefined
    })
    expect(begun).toMatch(/^canary/)
    const load = streamLoad(client, MODEL, 1)
    onTestFinished(async () => void (await load.stop()))
    // The canary has the limits of the gate: the default ones now.
    await service.setPolicy({ canary, watch: { soak_minutes: 0 } })
    const versionsOf = () => new Set(load.answers.flatMap(({ fingerprints }) => fingerprints))
    await until('answers of both masks', () => versionsOf().size > 1 || undefined)
    // Without load a node scores everything, so the verdict comes soon.
    const answers = await load.stop()
    // The canary counts conversations, so each text is another one.
    const texts = passages('speech.evaluation.txt', 1000, 200)
    let end: UpdateEntry | undefined
    const ended = untilUpdateEnded(service, id).then((update) => (end = update))
    for (let from = 0; !end && from < texts.length; from += 4) {
      await sendTraffic(client, MODEL, 'speech', texts.slice(from, from + 4), true)
      await sleep(2_000)
    }
    await ended
    expect(end).toMatchObject({ state: 'rolled_back' })
    const { decisions = [] } = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
    expect(decisions.map(({ kind, verdict }) => `${kind} ${verdict}`)).toEqual([
      'gate passed',
      'canary failed',
    ])
    const harm = decisions.at(-1)?.figures.find(({ passed }) => !passed)
    expect(harm?.lower ?? 0).toBeGreaterThan(harm?.limit ?? Infinity)
    expect(answers.filter((answer) => answer.error)).toEqual([])
    expect(versionsOf()).toEqual(
      new Set([`copal-${MODEL}-m${adapted}`, `copal-${MODEL}-m${end?.mask_version}`]),
    )
    const { data: masks } = await service.admin<{ data: MaskEntry[] }>('GET', '/admin/masks')
    expect(masks.find(({ active }) => active)?.version).toBe(adapted)
  })

  test('drift is reported per domain and mask version, with the R matrix', async () => {
    const drift = await until('drift figures', async () => {
      const report = await service.admin<DriftReport>('GET', '/admin/drift')
      return report.traffic.some((entry) => entry.domain === 'novel') ? report : undefined
    })
    for (const entry of drift.traffic) {
      expect(entry.tokens).toBeGreaterThan(0)
      expect(entry.nll_dense).toBeGreaterThan(0)
    }
    expect(drift.traffic.find((entry) => entry.domain === 'novel')?.gap).toBeGreaterThan(0)
    expect(drift.r.stages[0]).toMatchObject({ mask_version: 0 })
    const speech = drift.r.domains.indexOf('speech')
    expect(drift.r.perplexity[0]?.[speech]).toBeGreaterThan(1)
    expect(drift.traffic.some((entry) => entry.domain === 'private')).toBe(false)
  })
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

async function rollbackTo(version: number): Promise<void> {
  await service.admin('POST', '/admin/rollback', { version })
  await untilConverged(service)
}
