"""What commands of several processes share: ranks, claims, run folders, one error message, pools of workers."""
