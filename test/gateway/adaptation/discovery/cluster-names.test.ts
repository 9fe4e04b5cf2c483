/** Tests the names of proposals on real texts: the fixtures, this project's manual and its sources. */
import { expect, test } from 'vitest'
import manual from '../../../../docs/domains.md?raw'
import operations from '../../../../docs/operations.md?raw'
import speech from '../../../fixtures/text/speech.calibration.txt?raw'
import novel from '../../../fixtures/text/novel.calibration.txt?raw'
import firstSource from '../../../../gpu-node/native/src/exchange/row.rs?raw'
import secondSource from '../../../../gpu-node/native/src/engine/attention.rs?raw'
import { nameClusters } from '../../../../gateway/src/adaptation/discovery/cluster-names.ts'

/** Texts of 1,000 characters. */
const cut = (text: string) =>
  Array.from({ length: Math.min(24, Math.floor(text.length / 1000)) }, (_, at) =>
    text.slice(1000 * at, 1000 * (at + 1)),
  )

test('names are made of words that tell the subject, not of function words', () => {
  const groups = [cut(speech), cut(novel), cut(manual + operations), cut(firstSource + secondSource)]
  const named = nameClusters(groups, [], [])
  const grammar =
    /\b(the|and|but|any|was|his|her|will|shall|not|are|for|with|that|this|from|which|been|its|our)\b/
  for (const { name, terms } of named) {
    expect(terms).toHaveLength(6)
    expect([name, ...terms].join(' ')).not.toMatch(grammar)
  }
  // The manual changes, and its subject stays.
  expect(named.map(({ name }) => name)).toEqual([
    'states-united',
    'captain-sea',
    expect.stringMatching(/\bdomain\b/),
    'mut-usize',
  ])
})

test('a group without others to differ from is named by its subject too', () => {
  const [{ name } = { name: '' }] = nameClusters([cut(speech)], [], [])
  expect(name).toMatch(/government|congress|states|people|country/)
})

test('function words of other languages are left out where the texts are in them', () => {
  const german = [
    'Die Richter haben das Urteil nicht aufgehoben, weil die Klage gegen den Vertrag zulässig war.',
    'Der Vertrag ist nicht gültig, und die Richter werden das Urteil über die Klage noch sprechen.',
    'Das Urteil wurde von den Richtern mit der Klage und dem Vertrag begründet, aber nicht für alle.',
  ]
  const english = [
    'The war was long, and the soldiers of the war were tired when they saw the harbour.',
    'After the war the soldiers went to the harbour, and some of them would not come back.',
    'They say that a war without soldiers is not a war, but the harbour was still burning.',
  ]
  const [court, army] = nameClusters([german, english], [], [])
  expect(court?.terms.toSorted()).toEqual(expect.arrayContaining(['klage', 'urteil', 'vertrag']))
  expect(court?.terms).not.toContain('nicht')
  expect(army?.terms).toEqual(expect.arrayContaining(['war', 'soldiers', 'harbour']))
})

test('a name has no two forms of one word', () => {
  const texts = Array.from({ length: 3 }, () => 'token tokens tokenizer grammar')
  expect(nameClusters([texts], [], [])[0]?.name).toBe('grammar-token')
})
