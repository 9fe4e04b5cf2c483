import { expect, test } from 'vitest'
import { parseDomainSpec, requireDistinctDomains } from '../../../../gpu-node/lab/texts/domain-spec.ts'

test('a domain has a name, calibration text and evaluation text; without calibration text it is only evaluated', () => {
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

test('the colon of a Windows drive is not a separator', () => {
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
  ['law=a.txt', /the ':' between the two files is missing/],
  ['law=a.txt:', /the evaluation file is missing/],
  ['law=a:b:c', /must not contain ':'/],
])('%s is rejected', (text, reason) => {
  expect(() => parseDomainSpec(text)).toThrow(reason)
})

test('a repeated name and an empty list are rejected', () => {
  const law = parseDomainSpec('law=a:b')
  expect(() => requireDistinctDomains([law, parseDomainSpec('law=:c')])).toThrow("'law' is given twice")
  expect(() => requireDistinctDomains([])).toThrow(/^No domain is given. Give at least one: name=/)
})
