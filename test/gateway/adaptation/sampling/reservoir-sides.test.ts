import { expect, test } from 'vitest'
import { conversationSide } from '../../../../gateway/src/adaptation/sampling/conversation.ts'
import { splitText } from '../../../../gateway/src/adaptation/sampling/split-text.ts'
import { headHash, textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import type { ReservoirStore } from '../../../../gateway/src/adaptation/sampling/reservoir-store.ts'
import type { Side } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

const on = (side: Side, text: string, changes = {}) =>
  offeredSample(text, { side, atMs: 100, requestId: `${side} ${text}`, ...changes })
const sidesOf = (store: ReservoirStore) => ({ pool: poolOf(store), holdout: holdoutOf(store) })

test.each(['pool', 'holdout'] as const)(
  'a text that is stored in the %s does not enter the other side',
  async (side) => {
    await withStore('stored side', async (open) => {
      const store = open()
      await store.offer([on(side, 'the same')])
      await store.offer([on(side === 'pool' ? 'holdout' : 'pool', 'the same')])
      expect(sidesOf(store)).toEqual({ pool: [], holdout: [], [side]: ['the same'] })
    })
  },
)

test('a text that a model took does not enter the holdout when it is gone', async () => {
  await withStore('taken side', async (open) => {
    const store = open()
    await store.offer([on('pool', 'the same')])
    store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
    store.delete()
    await store.offer([on('holdout', 'the same')])
    expect(holdoutOf(store)).toEqual([])
  })
})

test('a text that was held out does not enter the pool when it is gone, and neither do its pieces nor its beginning', async () => {
  await withStore('held side', async (open) => {
    const store = open()
    const long = Array.from({ length: 900 }, (_, index) => `word ${index}`).join(' ')
    const pieces = splitText(long, 4_096)
    await store.offer([on('holdout', long)])
    expect(holdoutOf(store).toSorted()).toEqual(pieces.toSorted())
    store.delete()
    const begun = long.slice(0, 4_096)
    await store.offer([long, begun, ...pieces].map((text) => on('pool', text)))
    expect(poolOf(store)).toEqual([])
    // Of a text that begins like it, what follows is new.
    const alike = `${begun} with another end`
    await store.offer([on('pool', alike, { opening: await textHash(alike) })])
    expect(poolOf(store)).toEqual([expect.stringMatching(/with another end$/) as string])
    expect(poolOf(store)[0]?.length).toBeLessThan(2_048)
  })
})

const words = (name: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${name} ${index}`).join(' ')

test('texts that begin with the same long instructions are on both sides, the instructions on one', async () => {
  await withStore('instructions', async (open) => {
    const bounds = { texts: 100, characters: 1e6 }
    const store = open({ pool: bounds, holdout: bounds })
    const instructions = words('instruction', 600)
    const messages = Array.from(
      { length: 40 },
      (_, index) => `${instructions}\n\n${words(`question ${index}`, 80)}`,
    )
    const secret = 'the secret of the gateway'
    for (const [index, text] of messages.entries()) {
      const side = await conversationSide(secret, text)
      const conversation = `conversation ${index}`
      await store.offer([
        on(side, text, { opening: await textHash(text), conversation, requestId: conversation }),
      ])
    }
    const { pool, holdout } = sidesOf(store)
    expect(instructions.length).toBeGreaterThan(2 * 4_096)
    expect(pool.filter((text) => text.includes('question')).length).toBeGreaterThan(20)
    expect(holdout.filter((text) => text.includes('question')).length).toBeGreaterThan(4)
    expect([...pool, ...holdout].filter((text) => text.startsWith('instruction 0 '))).toHaveLength(1)
  })
})

test.each(['pool', 'holdout'] as const)(
  'what is almost a text of the %s does not enter the other side, also when that is gone',
  async (side) => {
    await withStore('almost', async (open) => {
      const store = open()
      const text = words('word', 300)
      const almost = text.replace('word 150', 'another word')
      await store.offer([on(side, text)])
      // Remembered once it was taken or held out.
      if (side === 'pool') store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
      else store.holdout(Infinity)
      const other = side === 'pool' ? 'holdout' : 'pool'
      await store.offer([on(other, almost)])
      expect(sidesOf(store)[other]).toEqual([])
      store.delete()
      await store.offer([on(other, almost, { requestId: 'again', conversation: 'again' })])
      expect(sidesOf(store)).toEqual({ pool: [], holdout: [] })
      // Its own side takes it.
      await store.offer([on(side, almost, { requestId: 'own', conversation: 'own' })])
      expect(sidesOf(store)[side]).toEqual([almost])
    })
  },
)

test('a prompt that grows with its conversation is on the side of its beginning', async () => {
  const prompt = words('turn', 200)
  const longer = `${prompt} ${words('answer', 150)}`
  for (const { name, first, second } of [
    { name: 'growing', first: prompt, second: longer },
    { name: 'shrinking', first: longer, second: prompt },
  ]) {
    await withStore(name, async (open) => {
      const store = open()
      await store.offer([on('holdout', first), on('pool', second)])
      expect(sidesOf(store)).toEqual({ pool: [], holdout: [first] })
    })
  }
})

test('a reservoir of before keeps the sides that it remembers, and remembers sketches from then on', async () => {
  await withStore('sides of before', async (open, storage) => {
    const text = words('word', 300)
    const hash = await textHash(text)
    storage.sql.exec('CREATE TABLE sides (hash TEXT PRIMARY KEY, side TEXT NOT NULL) WITHOUT ROWID')
    storage.sql.exec(`INSERT INTO sides VALUES (?, 'holdout')`, hash)
    const store = open()
    await store.offer([on('pool', text)])
    expect(sidesOf(store)).toEqual({ pool: [], holdout: [] })
    await store.offer([on('holdout', text, { requestId: 'own', conversation: 'own' })])
    expect(holdoutOf(store)).toEqual([text])
    store.delete()
    await store.offer([on('pool', text.replace('word 150', 'another word'))])
    expect(poolOf(store)).toEqual([])
  })
})

test('the pieces of a message are on its side, and a piece that is on the other side is left out', async () => {
  await withStore('sides of pieces', async (open) => {
    const bounds = { texts: 100, characters: 1e6 }
    const store = open({ pool: bounds, holdout: bounds })
    const part = (word: string) => `${word} `.repeat(800)
    const shared = splitText(`${part('begin')}\n\n${part('shared')}`, 4_096)
    await store.offer([on('pool', shared.at(-1) ?? '')])
    await store.offer([on('holdout', `${part('begin')}\n\n${part('shared')}`)])
    expect(shared.length).toBeGreaterThan(1)
    const { pool, holdout } = sidesOf(store)
    expect(pool).toEqual(shared.slice(-1))
    expect(holdout.toSorted()).toEqual(shared.slice(0, -1).toSorted())
  })
})

test('texts that are taken or held out according to old datasets leave the other side, and never enter it', async () => {
  await withStore('old datasets', async (open) => {
    const store = open()
    await store.offer([on('holdout', 'calibrated'), on('pool', 'held out'), on('pool', 'neither')])
    store.markTaken({ model: 'm', updateId: 'u', hashes: [await textHash('calibrated')] })
    store.markHeldOut([await textHash('held out')])
    await store.offer([
      on('holdout', 'calibrated', { requestId: 'again 1' }),
      on('pool', 'held out', { requestId: 'again 2' }),
    ])
    expect(sidesOf(store)).toEqual({ pool: ['neither'], holdout: [] })
  })
})

test('the first message of a conversation is on its side or on none, whoever sends it where', async () => {
  const opening = await headHash('opening')
  const later = { opening, conversation: 'held out conversation' }
  await withStore('opening first', async (open) => {
    const store = open()
    await store.offer([on('holdout', 'a later message', later), on('pool', 'opening')])
    expect(sidesOf(store)).toEqual({ pool: [], holdout: ['a later message'] })
  })
  await withStore('opening elsewhere', async (open) => {
    const store = open()
    await store.offer([on('pool', 'opening'), on('holdout', 'a later message', later)])
    expect(sidesOf(store)).toEqual({ pool: ['opening'], holdout: [] })
  })
  await withStore('opening held out and gone', async (open) => {
    const store = open()
    await store.offer([on('holdout', 'a later message', later)])
    expect(holdoutOf(store)).toEqual(['a later message'])
    store.delete()
    await store.offer([on('pool', 'opening')])
    expect(poolOf(store)).toEqual([])
  })
})

test('a text that names no side, because it was queued by the version before, is placed by its hash', async () => {
  await withStore('no side', async (open) => {
    const store = open({ pool: { texts: 100, characters: 1e6 }, holdout: { texts: 100, characters: 1e6 } })
    const texts = Array.from({ length: 80 }, (_, index) => `text ${index}`)
    await store.offer(texts.map((text) => offeredSample(text, { conversation: '', atMs: 100 })))
    const expected = await Promise.all(
      texts.map(async (text) => ({
        text,
        isHeld: Number.parseInt((await textHash(text)).slice(-1), 16) % 4 === 0,
      })),
    )
    const held = expected.filter(({ isHeld }) => isHeld).map(({ text }) => text)
    expect(holdoutOf(store).toSorted()).toEqual(held.toSorted())
    expect(held.length).toBeGreaterThan(5)
    expect(poolOf(store)).toHaveLength(80 - held.length)
  })
})
