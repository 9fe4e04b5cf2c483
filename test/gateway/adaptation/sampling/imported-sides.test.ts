import { expect, test } from 'vitest'
import { conversationSide, importedSides } from '../../../../gateway/src/adaptation/sampling/conversation.ts'

const SECRETS = Array.from({ length: 300 }, (_, index) => `secret ${index}`)
const textsOf = (count: number) =>
  Array.from({ length: count }, (_, index) => `Text ${index} of some length.`)

async function heldOut(secret: string, texts: readonly string[]): Promise<number> {
  const sides = await importedSides(secret, texts)
  return sides.filter((side) => side === 'holdout').length
}

test('a quarter of the texts that are imported together is held out, whatever the secret', async () => {
  for (const secret of SECRETS) expect(await heldOut(secret, textsOf(40))).toBe(10)
})

test('which texts are held out depends on the secret', async () => {
  const chosen = await Promise.all(
    SECRETS.slice(0, 20).map(async (secret) => JSON.stringify(await importedSides(secret, textsOf(40)))),
  )
  expect(new Set(chosen).size).toBe(20)
})

test('what is left of a quarter is held out by chance: a quarter of texts in the mean', async () => {
  for (const count of [1, 2, 3, 5, 6, 7]) {
    const counts = await Promise.all(SECRETS.map((secret) => heldOut(secret, textsOf(count))))
    const [least, most] = [Math.min(...counts), Math.max(...counts)]
    expect([least, most]).toEqual([Math.floor(count / 4), Math.floor(count / 4) + 1])
    const mean = counts.reduce((sum, held) => sum + held, 0) / counts.length
    expect(Math.abs(mean - count / 4)).toBeLessThan(0.1)
  }
})

test('a single text has the side that it would have as a conversation', async () => {
  for (const secret of SECRETS.slice(0, 40)) {
    expect(await importedSides(secret, ['One text.'])).toEqual([await conversationSide(secret, 'One text.')])
  }
})

test('equal texts are on the same side, and texts that only begin alike are held out like others', async () => {
  const beginning = 'The same beginning. '.repeat(300)
  const texts = textsOf(40).map((text) => beginning + text)
  for (const secret of SECRETS.slice(0, 40)) {
    const sides = await importedSides(secret, [...texts, ...texts])
    expect(sides.slice(40)).toEqual(sides.slice(0, 40))
    expect(sides.slice(0, 40).filter((side) => side === 'holdout')).toHaveLength(10)
  }
})
