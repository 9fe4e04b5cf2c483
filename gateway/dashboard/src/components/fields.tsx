import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'

interface TextFieldProps {
  label: string
  value: string
  onInput: (value: string) => void
  type?: 'text' | 'password' | 'number' | 'date'
  placeholder?: string
  hint?: ComponentChildren
  /** Error of the value. */
  problem?: string | undefined
  required?: boolean
  autocomplete?: string
}

/** A field of one line with its label. */
export function TextField(props: TextFieldProps) {
  const { label, value, onInput, type = 'text', hint, problem, ...rest } = props
  const id = useId()
  const input = {
    ...rest,
    id,
    value,
    onInput: (event: Event & { currentTarget: HTMLInputElement }) => onInput(event.currentTarget.value),
    'aria-describedby': hint !== undefined || problem !== undefined ? `${id}-hint` : undefined,
    'aria-invalid': problem !== undefined,
    spellcheck: false,
  }
  return (
    <p class="field">
      <label for={id}>{label}</label>
      {type === 'password' ? (
        <input {...input} type="password" />
      ) : type === 'number' ? (
        <input {...input} type="number" step="any" />
      ) : type === 'date' ? (
        <input {...input} type="date" />
      ) : (
        <input {...input} />
      )}
      {(problem !== undefined || hint !== undefined) && (
        <span id={`${id}-hint`} class={problem === undefined ? 'soft' : 'harm'}>
          {problem ?? hint}
        </span>
      )}
    </p>
  )
}

/** One choice of a {@link SelectField} or {@link Choice}. */
export interface Option {
  value: string
  label: string
}

interface SelectFieldProps {
  label: string
  value: string
  options: readonly Option[]
  onChange: (value: string) => void
  /** Hides the label from the eye, where its place tells it. */
  hidesLabel?: boolean
  disabled?: boolean
}

/** A choice from a list. */
export function SelectField({
  label,
  value,
  options,
  onChange,
  hidesLabel = false,
  disabled,
}: SelectFieldProps) {
  const id = useId()
  return (
    <span class="field">
      <label for={id} class={hidesLabel ? 'visually-hidden' : ''}>
        {label}
      </label>
      <select
        id={id}
        value={value}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.value)}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </span>
  )
}

/** A choice of a few, all visible, such as a span of time. Arrow keys move between them. */
export function Choice({ label, value, options, onChange }: Omit<SelectFieldProps, 'hidesLabel'>) {
  const name = useId()
  return (
    <fieldset class="choice">
      <legend class="visually-hidden">{label}</legend>
      {options.map((option) => (
        <label key={option.value}>
          <input
            type="radio"
            name={name}
            value={option.value}
            checked={option.value === value}
            onChange={() => onChange(option.value)}
          />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  )
}
