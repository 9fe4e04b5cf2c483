/** The descriptions and limits of the settings of a policy, as the OpenAPI document of the gateway has them. */
import { endpoint } from '../../data/client.ts'

/** The keywords of JSON Schema that the settings of a policy use. */
interface JsonSchema {
  description?: string
  type?: string
  const?: unknown
  enum?: readonly unknown[]
  anyOf?: readonly JsonSchema[]
  minimum?: number
  exclusiveMinimum?: number
  maximum?: number
  exclusiveMaximum?: number
  properties?: Readonly<Record<string, JsonSchema>>
}

/** The part of an OpenAPI document that is read. */
export interface OpenApiSchemas {
  components: { schemas: Readonly<Record<string, JsonSchema>> }
}

/** The OpenAPI document of the gateway, which needs no key. */
export const openApi = () => endpoint<OpenApiSchemas>('/openapi.json')

/** A bound of a number. */
export interface Bound {
  value: number
  /** The bound itself is not allowed. */
  isExclusive: boolean
}

/** The values that a setting may have. */
export type SettingValues =
  | { kind: 'number'; isWhole: boolean; min: Bound | undefined; max: Bound | undefined }
  | { kind: 'choice'; choices: readonly (string | number)[] }
  | { kind: 'switch' }
  | { kind: 'text' }

/** The description of a setting, and its values. */
export interface SettingSchema {
  description: string
  /** `null` is a value too. */
  isNullable: boolean
  values: SettingValues
}

/** Schemas of the settings by their names, such as `gate.confidence`, and descriptions of the parts by theirs. */
export interface PolicySchema {
  settings: ReadonlyMap<string, SettingSchema>
  parts: ReadonlyMap<string, string>
}

/** Reads the schema of the policy from an OpenAPI document; without it there are no settings. */
export function readPolicySchema({ components }: OpenApiSchemas): PolicySchema {
  const policy = Object.entries(components.schemas['Policy']?.properties?.['policy']?.properties ?? {})
  return {
    settings: new Map(
      policy.flatMap(([part, schema]): [string, SettingSchema][] =>
        schema.properties
          ? Object.entries(schema.properties).map(([field, each]) => [`${part}.${field}`, readSetting(each)])
          : [[part, readSetting(schema)]],
      ),
    ),
    parts: new Map(policy.map(([part, { description = '' }]) => [part, description])),
  }
}

function readSetting(schema: JsonSchema): SettingSchema {
  const alternatives = alternativesOf(schema)
  return {
    description: schema.description ?? '',
    isNullable: alternatives.some(({ type }) => type === 'null'),
    values: valuesOf(alternatives),
  }
}

function alternativesOf(schema: JsonSchema): JsonSchema[] {
  return schema.anyOf ? schema.anyOf.flatMap(alternativesOf) : [schema]
}

/** The values that alternatives allow. Where one of them is an object, the others are offered. */
function valuesOf(alternatives: readonly JsonSchema[]): SettingValues {
  const choices = alternatives
    .flatMap((each) => (each.const === undefined ? (each.enum ?? []) : [each.const]))
    .filter((choice) => typeof choice === 'string' || typeof choice === 'number')
  if (choices.length > 0) return { kind: 'choice', choices }
  if (alternatives.some(({ type }) => type === 'boolean')) return { kind: 'switch' }
  const number = alternatives.find(({ type }) => type === 'number' || type === 'integer')
  if (!number) return { kind: 'text' }
  return {
    kind: 'number',
    isWhole: number.type === 'integer',
    min: boundOf(number.minimum, number.exclusiveMinimum),
    max: boundOf(number.maximum, number.exclusiveMaximum),
  }
}

/** A bound; none where it is that of all integers that are exact. */
function boundOf(inclusive: number | undefined, exclusive: number | undefined): Bound | undefined {
  const value = exclusive ?? inclusive
  if (value === undefined || Math.abs(value) >= Number.MAX_SAFE_INTEGER) return undefined
  return { value, isExclusive: exclusive !== undefined }
}
