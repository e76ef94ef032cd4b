# Completion in bash for pskkeyctl, pskkeyd, mcastpeer, pskkey-server and pskkey-client.

# Each below: $1 the program, $2 the word to complete, $3 the word before it (bash(1), "complete -F").

_pskkey_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_pskkey_files() {
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# What stands behind an option; false when that is not an option with a value.
_pskkey_value() {
    case $1 in
        --config | --file | --output | --psk-file | --socket) _pskkey_files "$2" ;;
        --interface) _pskkey_words "$(ls /sys/class/net)" "$2" ;;
        --role) _pskkey_words "listening joining client master" "$2" ;;
        --suite) _pskkey_words "NULL_SHA256 CHACHA20_POLY1305" "$2" ;;
        --bind | --duration | --epoch | --group | --identity | --port | --rate | --sender-id | --size | --timeout)
            COMPREPLY=()
            ;;
        *) return 1 ;;
    esac
}

# The words of the verb so far, without options and what belongs to them.
_pskkeyctl_verb() {
    local word skip=
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ -n $skip ]]; then
            skip=
        elif [[ $word == --* ]]; then
            case $word in --socket | --timeout | --epoch | --role | --config | --file | --identity | --output) skip=yes ;; esac
        else
            printf '%s ' "$word"
        fi
    done
}

_pskkeyctl() {
    _pskkey_value "$3" "$2" && return
    case $(_pskkeyctl_verb) in
        '')
            _pskkey_words "status members keys metrics monitor wait rekey switchover check-config doctor psk
                --socket --json --timeout --version --help" "$2"
            ;;
        'status ' | 'members ' | 'keys ' | 'metrics ') _pskkey_words "--socket --json --timeout --help" "$2" ;;
        'monitor ') _pskkey_words "--socket --json --help" "$2" ;;
        'wait ') _pskkey_words "--epoch --role --synced --socket --timeout --help" "$2" ;;
        'rekey ' | 'switchover '*) _pskkey_words "--wait --socket --json --timeout --help" "$2" ;;
        'doctor ') _pskkey_words "--socket --json --timeout --config --help" "$2" ;;
        'check-config ') _pskkey_words "--config --help" "$2" ;;
        'psk ') _pskkey_words "generate list add use remove --help" "$2" ;;
        'psk generate ') _pskkey_words "--identity --output --help" "$2" ;;
        'psk list ') _pskkey_words "--file --config --json --help" "$2" ;;
        'psk add ') if [[ $2 == -* ]]; then _pskkey_words "--file --config --help" "$2"; else _pskkey_files "$2"; fi ;;
        'psk use ' | 'psk remove ')
            if [[ $2 == -* ]]; then
                _pskkey_words "--file --config --help" "$2"
            else
                _pskkey_words "$(pskkeyctl psk list 2>/dev/null | sed -E 's/  +(in use|accepted)$//')" "$2"
            fi
            ;;
    esac
}

_pskkeyd() {
    _pskkey_value "$3" "$2" || _pskkey_words "--config --check-config --version --help" "$2"
}

_mcastpeer() {
    _pskkey_value "$3" "$2" || _pskkey_words "--rate --size --group --port --interface --suite --duration --daemon
        --socket --sender-id --json --version --help" "$2"
}

_pskkey_server() {
    _pskkey_value "$3" "$2" || _pskkey_words "--psk-file --identity --bind --port --legacy-clients --version --help" "$2"
}

_pskkey_client() {
    _pskkey_value "$3" "$2" ||
        _pskkey_words "--psk-file --identity --bind --port --timeout --legacy-server --output --version --help
            $(compgen -A hostname)" "$2"
}

complete -F _pskkeyctl pskkeyctl
complete -F _pskkeyd pskkeyd
complete -F _mcastpeer mcastpeer
complete -F _pskkey_server pskkey-server
complete -F _pskkey_client pskkey-client
