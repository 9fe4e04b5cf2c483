import { expect, test } from 'vitest'
import { parseDomainSpec, requireDistinctDomains } from '../../../../gpu-node/lab/texts/domain-spec.ts'

test('a domain is a name, calibration text and evaluation text; without calibration text it is held out', () => {
  expect(parseDomainSpec('law=a.txt:b.txt')).toEqual({
    name: 'law',
    calibrationPath: 'a.txt',
    evaluationPath: 'b.txt',
  })
  expect(parseDomainSpec('mail=:b=c.txt')).toEqual({
    name: 'mail',
    calibrationPath: null,
    evaluationPath: 'b=c.txt',
  })
})

test('the colon of a Windows drive separates nothing', () => {
  expect(parseDomainSpec('law=C:\\t\\a.txt:D:/b.txt')).toMatchObject({
    calibrationPath: 'C:\\t\\a.txt',
    evaluationPath: 'D:/b.txt',
  })
  expect(parseDomainSpec('law=:C:\\b.txt')).toMatchObject({
    calibrationPath: null,
    evaluationPath: 'C:\\b.txt',
  })
})

test.each([
  ['a.txt:b.txt', /expected name=calibration.txt:evaluation.txt/],
  ['Law=a.txt:b.txt', /lower-case/],
  ['law=a.txt', /no ':' between two files/],
  ['law=a.txt:', /the file to evaluate on is missing/],
  ['law=a:b:c', /may hold no ':'/],
])('%s is refused', (text, reason) => {
  expect(() => parseDomainSpec(text)).toThrow(reason)
})

test('a name twice, and no domain at all, are refused', () => {
  const law = parseDomainSpec('law=a:b')
  expect(() => requireDistinctDomains([law, parseDomainSpec('law=:c')])).toThrow("'law' is given twice")
  expect(() => requireDistinctDomains([])).toThrow(/at least one domain/)
})
