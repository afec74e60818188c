# sh -c keeper LOG SCRATCH PROGRAM ARGUMENT...
# Runs the program, tells its process id on standard output, and kills it when standard input ends, which happens when the
# parent process is gone, however it died. Then SCRATCH, if it is not empty, is removed. Exits with the program's exit code.
log=$1
scratch=$2
shift 2
exec 3<&0 2>/dev/null # a shell reports killed jobs on standard error
"$@" 3<&- </dev/null >>"$log" 2>&1 &
server=$!
echo "$server"
{
    cat <&3 >/dev/null
    trap '' TERM
    kill -KILL "$server"
    [ -z "$scratch" ] || rm -rf -- "$scratch"
} >/dev/null &
watcher=$!
exec 3<&-
wait "$server"
code=$?
kill "$watcher"
wait "$watcher"
exit "$code"
