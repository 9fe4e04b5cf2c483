import { useState } from 'preact/hooks'
import type { PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { withSetting } from '@copal/shared/wire/policy-settings.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { SelectField, TextField } from '../../components/fields.tsx'
import { FormDialog } from '../../components/form-dialog.tsx'
import { useToast } from '../../components/toast.tsx'
import { toApiError } from '../../data/client.ts'
import { useClient } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { useModel } from '../../navigation/navigation.tsx'
import type { SettingSchema } from './policy-schema.ts'
import { effectsOf, isSameValue, presetNote, settingOf, type Setting } from './policy-settings.ts'
import { SettingText } from './setting-text.tsx'
import { formatValue, hintOf, readValue, textOf } from './setting-values.ts'

/** Attempts to change a setting while others change other ones. */
const MAX_ATTEMPTS = 5

interface ChangeProps {
  setting: Setting
  schema: SettingSchema
}

/** A button that opens a dialog which changes a setting. */
export function ChangeSetting(props: ChangeProps) {
  const [isOpen, setOpen] = useState(false)
  const { label } = props.setting.words
  return (
    <>
      <button
        type="button"
        class="button button-small"
        aria-label={`Change ${label}`}
        onClick={() => setOpen(true)}
      >
        Change
      </button>
      {isOpen && <ChangeDialog {...props} onClose={() => setOpen(false)} />}
    </>
  )
}

function ChangeDialog({ setting, schema, onClose }: ChangeProps & { onClose: () => void }) {
  const { name, words, value, isChanged } = setting
  const change = useChangePolicy()
  const toast = useToast()
  const [text, setText] = useState(textOf(value, words.unit))
  const read = readValue(text, schema, words)
  const isNew = 'value' in read && !isSameValue(read.value, value)
  return (
    <FormDialog
      title={words.label}
      submit={isNew ? `Set it to ${formatValue(read.value, words)}` : 'Set it'}
      isReady={isNew}
      onSubmit={async () => {
        if (!isNew) return
        await change(setting, read.value)
        toast(`${words.label}: ${formatValue(read.value, words)} from now on.`)
      }}
      onClose={onClose}
    >
      <p class="soft">
        <SettingText text={schema.description} />
      </p>
      <p>
        Now: {formatValue(value, words)}
        {isChanged && <span class="soft"> ({presetNote(setting)})</span>}
      </p>
      <SettingField
        schema={schema}
        text={text}
        onText={setText}
        hint={hintOf(schema, words)}
        problem={'problem' in read ? read.problem : undefined}
      />
      {isNew && effectsOf(name, read.value).map((effect) => <p key={effect}>{effect}</p>)}
      {name === 'statistics.weights' ? (
        <p>
          Weights of single domains are set in a terminal:{' '}
          <code>npx copal policy set {name}=legal:2,code:1</code>
        </p>
      ) : (
        <p class="soft">
          For <code>npx copal policy set</code> it is called <code>{name}</code>.
        </p>
      )}
    </FormDialog>
  )
}

interface FieldProps {
  schema: SettingSchema
  text: string
  onText: (text: string) => void
  hint: string
  problem: string | undefined
}

/** The field of a setting: a choice, or a text. */
function SettingField({ schema: { values, isNullable }, text, onText, hint, problem }: FieldProps) {
  if (values.kind === 'number' || values.kind === 'text')
    return (
      <TextField
        label="New value"
        value={text}
        onInput={onText}
        hint={hint === '' ? undefined : hint}
        problem={problem}
        {...(isNullable ? { placeholder: 'none' } : {})}
      />
    )
  const choices: readonly (string | number | boolean)[] =
    values.kind === 'switch' ? [true, false] : values.choices
  const options = choices.map((choice) => ({
    value: String(choice),
    label: formatValue(choice, { unit: 'plain' }),
  }))
  if (isNullable) options.push({ value: '', label: 'none' })
  // The present value is none of the choices, such as weights of single domains.
  else if (text === '') options.unshift({ value: '', label: 'Choose one' })
  return <SelectField label="New value" value={text} options={options} onChange={onText} />
}

/** A button that takes the change of a setting back. */
export function BackToPreset({ setting }: { setting: Setting }) {
  const { name, words, value, presetValue } = setting
  const change = useChangePolicy()
  const [before, after] = [formatValue(value, words), formatValue(presetValue, words)]
  return (
    <ConfirmButton
      small
      tone="plain"
      label="Back to the preset"
      about={words.label}
      title={`${words.label}: back to the preset?`}
      consequences={[
        isSameValue(value, presetValue)
          ? `It stays ${after}, and follows the preset from now on.`
          : `It changes from ${before} to ${after}. Change it again to return.`,
        ...effectsOf(name, presetValue),
      ]}
      confirm={`Set it to ${after}`}
      act={() => change(setting, undefined)}
      done={`${words.label}: ${after}, as the preset has it.`}
    />
  )
}

/**
 * A function that changes one setting of the policy. The gateway replaces all changes at once, so they are read anew and sent
 * with this one, again if another setting is changed in between. It throws `ApiError`, and an error if somebody has changed the
 * setting meanwhile.
 */
function useChangePolicy(): (setting: Setting, value: unknown) => Promise<void> {
  const { get, send, refresh } = useClient()
  const model = useModel()
  const change = async ({ name, value: shown, words }: Setting, value: unknown): Promise<void> => {
    const report = await get(endpoints.policy(model))
    const current = settingOf(report, name)
    if (current && !isSameValue(current.value, shown)) {
      refresh('/admin/policy')
      throw new Error(
        `Somebody has set it to ${formatValue(current.value, words)} meanwhile. Send it again to replace that.`,
      )
    }
    const { model: id, revision } = report
    const body = { ...withSetting(report.overrides, name, value), model: id, revision }
    await send<PolicyReport>('PUT', '/admin/policy', body)
  }
  return async (setting, value) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await change(setting, value)
        break
      } catch (error) {
        if (toApiError(error).code !== 'conflict' || attempt === MAX_ATTEMPTS) throw error
      }
    }
    // The decisions and the triggers too.
    refresh('/admin/')
  }
}
