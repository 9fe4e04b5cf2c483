import { expect, test } from 'vitest'
import {
  decodeClassifier,
  encodeClassifier,
  maxDomains,
} from '../../../../gateway/src/adaptation/discovery/classifier-codec.ts'
import type { DomainClassifier } from '../../../../gateway/src/adaptation/discovery/classifier.ts'
import { GRAM_BUCKETS } from '../../../../gateway/src/adaptation/discovery/gram-vector.ts'
import { classify } from '../../../../gateway/src/adaptation/discovery/classify.ts'
import { clusterTexts } from '../../../../gateway/src/adaptation/discovery/cluster-texts.ts'
import { isKnownKind } from '../../../../gateway/src/adaptation/discovery/known-kind.ts'
import { seededRandom } from '../../../../gateway/src/adaptation/discovery/seeded-random.ts'
import { trainClassifier } from '../../../../gateway/src/adaptation/discovery/train-classifier.ts'

const SIZE = 32
const WORDS: Record<string, string[]> = {
  cooking: ['butter', 'onion', 'simmer', 'oven', 'garlic'],
  law: ['court', 'statute', 'plaintiff', 'appeal', 'tort'],
  sport: ['goal', 'referee', 'league', 'striker', 'match'],
}
const KINDS = Object.keys(WORDS)

/** Texts of made-up kinds: words of the kind, and embeddings around a corner of their own. */
function textsOf(domain: string, count: number, seed: number) {
  const random = seededRandom(seed)
  const corner = KINDS.indexOf(domain) < 0 ? KINDS.length : KINDS.indexOf(domain)
  const words = WORDS[domain] ?? ['nebula', 'orbit', 'quasar', 'zenith', 'comet']
  return Array.from({ length: count }, () => ({
    domain,
    tokens: 60,
    text: Array.from({ length: 30 }, () => words[Math.floor(random() * words.length)]).join(' '),
    embedding: Array.from({ length: SIZE }, (_, d) => random() - 0.5 + (d % 4 === corner ? 2 : 0)),
  }))
}

const training = KINDS.flatMap((kind) => textsOf(kind, 20, 1))
const heldOut = KINDS.flatMap((kind) => textsOf(kind, 40, 2))
/** Texts in which words and directions of all kinds, also of one without labels, are mixed. */
const background = {
  version: 'of-the-test',
  texts: Array.from({ length: 40 }, (_, index) => {
    const ofKinds = [...KINDS, 'stars'].map((kind) => textsOf(kind, 1, 100 + index).at(0)!)
    return {
      text: ofKinds.map(({ text }) => text.slice(0, 40)).join(' '),
      embedding: Array.from({ length: SIZE }, (_value, d) =>
        ofKinds.reduce((sum, { embedding }) => sum + embedding[d]! / ofKinds.length, 0),
      ),
    }
  }),
}
const against = trainClassifier(training, background)

/** Returns the share of the held-out texts of which a classifier finds the domain. */
function shareRight(classifier: DomainClassifier, texts: typeof heldOut) {
  const right = texts.filter((text) => {
    const found = classify(classifier, text)
    return 'domain' in found && found.domain === text.domain
  })
  return right.length / texts.length
}

test('texts are classified after a round trip through the stored form, with and without embeddings', () => {
  const classifier = decodeClassifier(encodeClassifier(trainClassifier(training)))
  expect(shareRight(classifier, heldOut)).toBeGreaterThan(0.9)
  const bare = heldOut.map((text) => ({ ...text, embedding: [] }))
  expect(shareRight(classifier, bare)).toBeGreaterThan(0.9)
})

test('a classifier that was trained against a background is the same after a round trip, and no domain has its name', () => {
  const classifier = decodeClassifier(encodeClassifier(against))
  expect(classifier).toEqual(against)
  expect(classifier.domains).toEqual(KINDS)
  expect(classifier.background?.version).toBe('of-the-test')
  expect(shareRight(classifier, heldOut)).toBeGreaterThan(0.8)
  const bare = heldOut.map((text) => ({ ...text, embedding: [] }))
  expect(shareRight(classifier, bare)).toBeGreaterThan(0.8)
})

test('a text that is nearer to the background than examples are is rejected, with and without an embedding', () => {
  const rejected = { rejected: 'unknown' }
  for (const text of textsOf('stars', 40, 3)) {
    expect(classify(against, text)).toMatchObject(rejected)
    expect(classify(against, { ...text, embedding: [] })).toMatchObject(rejected)
  }
  // Unlike the background too, but no text of the domains is as near to it.
  for (const { text, embedding } of background.texts)
    expect(classify(against, { text, embedding, tokens: 60 })).toMatchObject(rejected)
})

test('a background of other embeddings, or examples without, are trained on as if there were none', () => {
  const other = {
    ...background,
    texts: background.texts.map(({ text }) => ({ text, embedding: [1, 2, 3] })),
  }
  const bytes = encodeClassifier(trainClassifier(training))
  expect(encodeClassifier(trainClassifier(training, other))).toEqual(bytes)
  const bare = training.map((text) => ({ ...text, embedding: [] }))
  expect(trainClassifier(bare, background).background).toBeNull()
})

test('a classifier that an earlier version stored is read, without a background', () => {
  const { background: _, ...stored } = JSON.parse(
    new TextDecoder().decode(encodeClassifier(trainClassifier(training))),
  ) as Record<string, unknown>
  const old = new TextEncoder().encode(JSON.stringify({ ...stored, version: 3 }))
  expect(decodeClassifier(old)).toEqual(trainClassifier(training))
})

test('a text of a kind without labels is rejected, and so is a short one', () => {
  const classifier = trainClassifier(training)
  const unknown = textsOf('stars', 40, 3).map((text) => classify(classifier, text))
  expect(unknown.filter((found) => 'rejected' in found && found.rejected === 'unknown')).toHaveLength(40)
  expect(classify(classifier, { ...heldOut.at(0)!, tokens: 3 })).toEqual({
    rejected: 'too_short',
    nearest: 'cooking',
  })
})

test('the same examples give the same bytes', () => {
  expect(encodeClassifier(trainClassifier(training))).toEqual(encodeClassifier(trainClassifier(training)))
})

test('a stored classifier with arrays of other sizes is not read', () => {
  const stored = JSON.parse(new TextDecoder().decode(encodeClassifier(trainClassifier(training)))) as object
  const broken = new TextEncoder().encode(JSON.stringify({ ...stored, domains: ['cooking'] }))
  expect(() => decodeClassifier(broken)).toThrow('must be trained again')
  expect(() => decodeClassifier(new Uint8Array([1, 2]))).toThrow('must be trained again')
})

test.each([2048, 16_384])('the most domains with embeddings of %i dimensions can be stored', (size) => {
  const examples = Math.min(200, (200 * 4096) / size)
  const many = maxDomains(size)
  expect(many).toBeGreaterThan(32)
  const machine = (features: number) => ({
    weights: new Float32Array(many * features),
    bias: new Float32Array(many),
    sharpness: 1,
  })
  const classifier: DomainClassifier = {
    domains: Array.from({ length: many }, (_, index) => `d${index}`.padEnd(64, 'x')),
    background: null,
    minTokens: 48,
    grams: { ...machine(GRAM_BUCKETS), inverseFrequencies: new Float32Array(GRAM_BUCKETS) },
    dense: { ...machine(size), mean: new Float32Array(size), scale: new Float32Array(size) },
    novelty: {
      centres: new Float32Array(many * size),
      neighbours: new Float32Array(examples * size),
      whitening: new Float32Array(examples * size),
      projections: new Float32Array(many * examples),
      penalty: 1,
      scales: { domain: [1, 1], neighbour: [1, 1] },
      threshold: 1,
    },
    gramThreshold: 0,
  }
  expect(decodeClassifier(encodeClassifier(classifier)).domains).toHaveLength(many)
  const oneMore = (features: number) => ({
    weights: new Float32Array((many + 1) * features),
    bias: new Float32Array(many + 1),
    sharpness: 1,
  })
  const withBackground: DomainClassifier = {
    ...classifier,
    background: { version: 'x'.repeat(64), lead: [0, 1], threshold: 1 },
    grams: { ...classifier.grams, ...oneMore(GRAM_BUCKETS) },
    dense: { ...classifier.dense!, ...oneMore(size) },
  }
  expect(decodeClassifier(encodeClassifier(withBackground)).domains).toHaveLength(many)
})

test('a classifier of many examples with large embeddings can be stored', () => {
  const large = ['law', 'sport'].flatMap((kind) =>
    textsOf(kind, 110, 4).map((text) => ({
      ...text,
      embedding: Array.from({ length: 8192 }, (_, d) => text.embedding[d % SIZE] ?? 0),
    })),
  )
  expect(decodeClassifier(encodeClassifier(trainClassifier(large))).domains).toEqual(['law', 'sport'])
})

test('a classifier without examples knows no domain', () => {
  expect(classify(trainClassifier([]), heldOut.at(0)!)).toEqual({ rejected: 'unknown', nearest: null })
})

test('kinds are found without labels, named by their words, and names that are taken are left out', () => {
  const clusters = clusterTexts(heldOut, ['court-appeal'])
  expect(clusters.flatMap(({ members }) => members)).toHaveLength(heldOut.length)
  expect(clusters).toHaveLength(KINDS.length)
  for (const { members, terms, name } of clusters) {
    const kinds = new Set(members.map((index) => heldOut.at(index)!.domain))
    expect(kinds.size).toBe(1)
    const [kind = ''] = kinds
    expect(WORDS[kind]).toEqual(expect.arrayContaining(terms))
    expect(name).toMatch(/^[a-z]+-[a-z]+(-\d)?$/)
  }
  expect(new Set(clusters.map(({ name }) => name)).size).toBe(clusters.length)
})

test('texts of one kind are one cluster, and too few texts are none', () => {
  expect(clusterTexts(textsOf('law', 60, 4))).toHaveLength(1)
  expect(clusterTexts(textsOf('law', 5, 4))).toEqual([])
})

test('a group of texts of a domain is known as such, and one of another kind is not', () => {
  const classifier = trainClassifier(training)
  for (const one of [classifier, against]) {
    for (const kind of KINDS) expect(isKnownKind(one, textsOf(kind, 30, 9))).toBe(true)
    expect(isKnownKind(one, textsOf('stars', 30, 9))).toBe(false)
  }
  expect(isKnownKind(trainClassifier([]), textsOf('law', 30, 9))).toBe(false)
})
