/** Values of settings, in words and as texts of a form. People set shares and ratios in per cent. */
import { capitalize } from '@copal/shared/phrases.ts'
import { formatDuration, formatPrecise } from '../../format/numbers.ts'
import { endSentence } from '../../format/phrases.ts'
import type { Bound, SettingSchema, SettingValues } from './policy-schema.ts'
import type { SettingWords, Unit } from './setting-words.ts'

type NumberValues = Extract<SettingValues, { kind: 'number' }>

/** Formats a value: `5 %`, `1 h`, `yes`, `none`, `legal 2, code 1`. Numbers have all their digits. */
export function formatValue(value: unknown, { unit, none = 'none' }: Omit<SettingWords, 'label'>): string {
  if (value === null || value === undefined) return none
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'number') return formatNumber(value, unit)
  if (typeof value !== 'object') return typeof value === 'string' ? value : JSON.stringify(value)
  const weights = Object.entries(value).map(([domain, weight]) => `${domain} ${weight}`)
  return weights.length === 0 ? 'no domain' : weights.join(', ')
}

function formatNumber(value: number, unit: Unit): string {
  switch (unit) {
    case 'share':
    case 'above':
      return formatPrecise(toShown(value, unit), '%')
    case 'minutes':
      return formatMinutes(value)
    case 'days':
      return value === 1 ? '1 day' : `${formatPrecise(value)} days`
    case 'nats':
      return `${formatPrecise(value)} nats a token`
    default:
      return formatPrecise(value)
  }
}

/** Formats minutes by hours and days where these are exact. */
function formatMinutes(minutes: number): string {
  const isExact = Number.isInteger(minutes) && (minutes < 24 * 60 || minutes % 60 === 0)
  return minutes >= 60 && isExact ? formatDuration(minutes * 60) : formatPrecise(minutes, 'min')
}

/** The text of a form that shows a value; empty for none, and for weights of single domains. */
export function textOf(value: unknown, unit: Unit): string {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  return typeof value === 'number' ? String(toShown(value, unit)) : ''
}

/** A value that was read from a form, or why it is none. */
export type ReadValue = { value: unknown } | { problem: string }

/** Reads the text of a form. */
export function readValue(
  text: string,
  { values, isNullable }: SettingSchema,
  { unit }: SettingWords,
): ReadValue {
  const plain = text.trim()
  if (plain === '' && isNullable) return { value: null }
  switch (values.kind) {
    case 'switch':
      return plain === 'true' || plain === 'false' ? { value: plain === 'true' } : { problem: 'Choose one.' }
    case 'choice': {
      const value = values.choices.find((choice) => String(choice) === plain)
      return value === undefined ? { problem: 'Choose one.' } : { value }
    }
    case 'text':
      return plain === '' ? { problem: 'Expected a text.' } : { value: plain }
    default:
      return readNumber(plain, values, unit)
  }
}

function readNumber(text: string, values: NumberValues, unit: Unit): ReadValue {
  const digits = text.replaceAll(/,(?=\d{3}(?:\D|$))/g, '')
  const value = /^-?\d+(?:\.\d+)?$/.test(digits) ? fromShown(Number(digits), unit) : Number.NaN
  const isValid =
    Number.isFinite(value) &&
    (!values.isWhole || Number.isInteger(value)) &&
    isWithin(value, values.min, 1) &&
    isWithin(value, values.max, -1)
  return isValid ? { value } : { problem: `Expected ${limits(values, unit)}.` }
}

function isWithin(value: number, bound: Bound | undefined, sign: 1 | -1): boolean {
  if (bound === undefined) return true
  const distance = (value - bound.value) * sign
  return bound.isExclusive ? distance > 0 : distance >= 0
}

/** Says what a field takes: `Per cent, from 0 to 900.`; empty where it says so itself. */
export function hintOf(
  { values, isNullable }: SettingSchema,
  { unit, none = 'none' }: Omit<SettingWords, 'label'>,
): string {
  const parts = [
    ...(values.kind === 'number' ? [limits(values, unit)] : []),
    ...(isNullable && (values.kind === 'number' || values.kind === 'text') ? [`empty for ${none}`] : []),
  ]
  const text = parts.join('; ')
  return text === '' ? '' : endSentence(capitalize(text))
}

/** The limits of a number, in the unit of the form: `per cent, from 0 to 900`, `a whole number, at least 0`. */
function limits({ isWhole, min, max }: NumberValues, unit: Unit): string {
  const shown = (bound: Bound) => formatPrecise(toShown(bound.value, unit))
  const from = min && (min.isExclusive ? `above ${shown(min)}` : `at least ${shown(min)}`)
  const to = max && (max.isExclusive ? `below ${shown(max)}` : `at most ${shown(max)}`)
  const isClosed = min && max && !min.isExclusive && !max.isExclusive
  const range = isClosed
    ? `from ${shown(min)} to ${shown(max)}`
    : [from, to].filter((each) => each !== undefined).join(' and ')
  return [nounOf(unit, isWhole), range].filter((each) => each !== '').join(', ')
}

function nounOf(unit: Unit, isWhole: boolean): string {
  switch (unit) {
    case 'share':
    case 'above':
      return 'per cent'
    case 'nats':
      return 'nats a token'
    case 'plain':
      return isWhole ? 'a whole number' : 'a number'
    default:
      return unit
  }
}

/** A number of the API as the form shows it, without the noise of binary fractions. */
function toShown(value: number, unit: Unit): number {
  if (unit === 'share') return rounded(value * 100)
  return unit === 'above' ? rounded((value - 1) * 100) : value
}

function fromShown(shown: number, unit: Unit): number {
  if (unit === 'share') return rounded(shown / 100)
  return unit === 'above' ? rounded(1 + shown / 100) : shown
}

function rounded(value: number): number {
  return Number(value.toPrecision(12))
}
